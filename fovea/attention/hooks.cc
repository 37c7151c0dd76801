#include "fovea/attention/hooks.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/check.h"
#include "fovea/tensor/edit_guard.h"
#include "fovea/tensor/ops/shape/copy.h"

namespace fovea::attention {
Result<uint64_t> Hooks::add(const std::string& pattern, Function function, SequenceId sequence) {
  FOVEA_CHECK(firing_ == 0, "hook {}: attached from inside a hook; attach before the run", pattern);
  FOVEA_ASSIGN_OR_RETURN(const std::vector<HookPoint> points, find_hooks(pattern, model_));
  Entry entry{next_id_++, sequence, pattern, std::vector<bool>(model_.hooks().size()), std::move(function)};
  for (const HookPoint& point : points) entry.sites[static_cast<size_t>(model_.index(point.site, point.layer))] = true;
  entries_.push_back(std::move(entry));
  return entries_.back().id;
}

Status Hooks::attach(const std::string& pattern, Function function) {
  FOVEA_RETURN_IF_ERROR(add(pattern, std::move(function), kEverySequence));
  return {};
}

Status Hooks::attach(const std::string& pattern, SequenceId sequence, Function function) {
  FOVEA_RETURN_IF_ERROR(add(pattern, std::move(function), sequence));
  return {};
}

Result<HookScope> Hooks::scoped(const std::string& pattern, Function function) {
  FOVEA_ASSIGN_OR_RETURN(const uint64_t id, add(pattern, std::move(function), kEverySequence));
  return HookScope(this, id);
}

void Hooks::detach(uint64_t id) {
  for (Entry& entry : entries_) {
    if (entry.id == id) entry.sites.assign(entry.sites.size(), false);
  }
  const auto gone = [id](const Entry& entry) { return entry.id == id; };
  if (firing_ == 0) {
    entries_.erase(std::remove_if(entries_.begin(), entries_.end(), gone), entries_.end());
  } else {
    detached_ = true;
  }
}

void Hooks::clear() {
  for (Entry& entry : entries_) entry.sites.assign(entry.sites.size(), false);
  if (firing_ == 0) {
    entries_.clear();
  } else {
    detached_ = true;
  }
}

void Hooks::sweep() {
  const auto gone = [](const Entry& entry) {
    return std::find(entry.sites.begin(), entry.sites.end(), true) == entry.sites.end();
  };
  entries_.erase(std::remove_if(entries_.begin(), entries_.end(), gone), entries_.end());
  detached_ = false;
}

bool Hooks::wants(Site site, int layer) const {
  if (entries_.empty()) return false;
  const int i = model_.index(site, layer);
  return i >= 0 && std::any_of(entries_.begin(), entries_.end(),
                               [i](const Entry& entry) { return entry.sites[static_cast<size_t>(i)]; });
}

tensor::Tensor Hooks::fire(Site site, int layer, tensor::Tensor x) {
  const int index = model_.index(site, layer);
  if (index < 0) return x;
  const auto i = static_cast<size_t>(index);
  const std::string& name = model_.hooks()[i].name;
  struct Firing {  // a callback may throw
    Hooks& hooks;
    explicit Firing(Hooks& h) : hooks(h) { ++hooks.firing_; }
    ~Firing() {
      if (--hooks.firing_ == 0 && hooks.detached_) hooks.sweep();
    }
  } const firing(*this);
  for (Entry& entry : entries_) {
    if (!entry.sites[i]) continue;
    if (entry.sequence != kEverySequence && entry.sequence != alone_) {
      if (alone_ == kEverySequence) fire_on_rows(entry, name, x);
      continue;
    }
    call(entry, name, x);
  }
  return x;
}

void Hooks::call(Entry& entry, const std::string& name, tensor::Tensor& x) {
  const tensor::Shape shape = x.shape();
  const tensor::EditGuard guard(x);
  entry.function(name, x);
  FOVEA_CHECK(!guard.edited(),
              "hook {}: writes into a value that has a gradient; put a tensor made of it by ops there, or a constant",
              name);
  FOVEA_CHECK(x.defined() && x.shape() == shape, "hook {}: replaced by shape {}, wanted {}", name,
              x.defined() ? x.shape().to_string() : "[]", shape.to_string());
  entry.fired = true;
}

// Rows of one sequence are adjacent, in the batch and among the rows whose logits are wanted.
void Hooks::fire_on_rows(Entry& entry, const std::string& name, tensor::Tensor& x) {
  FOVEA_CHECK(batch_, "hook {}: of one sequence, in a pass that does not say whose rows it works on", name);
  const std::vector<SequenceId>& of = batch_->sequences;
  if (of.front() == entry.sequence && of.back() == entry.sequence) return call(entry, name, x);
  const bool logits = x.dim(0) != batch_->size();
  int64_t begin = -1, end = -1;
  for (int64_t row = 0; row < x.dim(0); ++row) {
    const auto at = static_cast<size_t>(logits ? batch_->logit_rows[static_cast<size_t>(row)] : row);
    if (of[at] != entry.sequence) continue;
    if (begin < 0) begin = row;
    end = row + 1;
  }
  if (begin < 0) return;
  tensor::Tensor rows = slice(x, 0, begin, end);
  const uint64_t given = rows.id();
  call(entry, name, rows);
  const int64_t row = x.elements() / x.dim(0);
  const bool same = std::memcmp(rows.data(), x.data() + begin * row, rows.values().size_bytes()) == 0;
  if (same && (rows.id() == given || !tensor::current_tape())) return;
  std::vector<tensor::Tensor> parts;  // not in place: others may hold the value as it was
  if (begin > 0) parts.push_back(slice(x, 0, 0, begin));
  parts.push_back(std::move(rows));
  if (end < x.dim(0)) parts.push_back(slice(x, 0, end, x.dim(0)));
  x = concat(parts, 0);
}

Status Hooks::check_fired() const {
  for (const Entry& entry : entries_) {
    if (!entry.fired) {
      return make_error(ErrorCode::kUsage, "hook {} never fired in this run: the path taken does not compute it",
                        quote(entry.pattern));
    }
  }
  return {};
}

}  // namespace fovea::attention
