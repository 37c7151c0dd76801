#include "fovea/attention/hooks.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/check.h"
#include "fovea/tensor/edit_guard.h"

namespace fovea::attention {
namespace {

constexpr size_t kSites = static_cast<size_t>(Site::kLogits) + 1;

}  // namespace

size_t Hooks::index(Site site, int layer) const {
  FOVEA_CHECK(in_block(site) ? layer >= 0 && layer < n_layers_ : layer == kNoLayer,
              "hooks: {} has no layer {} in a model of {} layers", hook_name(site, layer), layer, n_layers_);
  return static_cast<size_t>(layer + 1) * kSites + static_cast<size_t>(site);
}

Result<uint64_t> Hooks::add(const std::string& pattern, Function function, SequenceId sequence) {
  FOVEA_CHECK(firing_ == 0, "hook {}: attached from inside a hook; attach before the run", pattern);
  FOVEA_ASSIGN_OR_RETURN(const std::vector<HookPoint> points, find_hooks(pattern, n_layers_));
  Entry entry{next_id_++, sequence, pattern, std::vector<bool>(static_cast<size_t>(n_layers_ + 1) * kSites),
              std::move(function)};
  for (const HookPoint& point : points) entry.sites[index(point.site, point.layer)] = true;
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
  return std::any_of(entries_.begin(), entries_.end(),
                     [i = index(site, layer)](const Entry& entry) { return entry.sites[i]; });
}

tensor::Tensor Hooks::fire(Site site, int layer, tensor::Tensor x) {
  const size_t i = index(site, layer);
  struct Firing {  // a callback may throw
    Hooks& hooks;
    explicit Firing(Hooks& h) : hooks(h) { ++hooks.firing_; }
    ~Firing() {
      if (--hooks.firing_ == 0 && hooks.detached_) hooks.sweep();
    }
  } const firing(*this);
  std::string name;
  for (Entry& entry : entries_) {
    if (!entry.sites[i]) continue;
    if (name.empty()) name = hook_name(site, layer);
    if (entry.sequence != kEverySequence && entry.sequence != alone_) {
      if (alone_ == kEverySequence) fire_on_rows(entry, name, x);
      continue;
    }
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
  return x;
}

// Rows of one sequence are adjacent, in the batch and among the rows whose logits are wanted.
void Hooks::fire_on_rows(Entry& entry, const std::string& name, tensor::Tensor& x) {
  FOVEA_CHECK(batch_, "hook {}: of one sequence, in a pass that does not say whose rows it works on", name);
  const bool logits = x.dim(0) != batch_->size();
  int64_t begin = -1, end = -1;
  for (int64_t row = 0; row < x.dim(0); ++row) {
    const auto at = static_cast<size_t>(logits ? batch_->logit_rows[static_cast<size_t>(row)] : row);
    if (batch_->sequences[at] != entry.sequence) continue;
    if (begin < 0) begin = row;
    end = row + 1;
  }
  if (begin < 0) return;
  if (begin == 0 && end == x.dim(0)) {
    const tensor::Shape shape = x.shape();
    entry.function(name, x);
    FOVEA_CHECK(x.defined() && x.shape() == shape, "hook {}: replaced by another shape, wanted {}", name,
                shape.to_string());
  } else {
    const int64_t row = x.elements() / x.dim(0);
    const auto mine = x.values().subspan(static_cast<size_t>(begin * row), static_cast<size_t>((end - begin) * row));
    const tensor::Shape shape = x.shape().with_dim(0, end - begin);
    tensor::Tensor rows = tensor::Tensor::from(shape, mine);
    entry.function(name, rows);
    FOVEA_CHECK(rows.defined() && rows.shape() == shape, "hook {}: replaced by another shape, wanted {}", name,
                shape.to_string());
    if (std::memcmp(rows.data(), mine.data(), mine.size_bytes()) != 0) {
      // Not in place: others may hold the value as it was.
      tensor::Tensor changed = tensor::Tensor::from(x.shape(), x.values());
      std::copy_n(rows.data(), rows.elements(), changed.data() + begin * row);
      x = std::move(changed);
    }
  }
  entry.fired = true;
}

Status Hooks::check_fired() const {
  for (const Entry& entry : entries_) {
    if (!entry.fired) {
      return make_error(ErrorCode::kUsage, "hook {} never fired in this run: the path taken does not compute it",
                        fovea::quoted(entry.pattern));
    }
  }
  return {};
}

}  // namespace fovea::attention
