#include "fovea/attention/pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "fovea/attention/policy_file.h"
#include "fovea/base/bytes.h"
#include "fovea/base/nearest.h"
#include "fovea/base/split.h"

namespace fovea::attention {
namespace {

using Knobs = std::vector<std::pair<std::string, std::string>>;

// The heads that a method was told to act on; nothing if it has no such knob.
std::optional<std::vector<bool>> heads_of(Method& method, const ModelShape& model) {
  for (const KnobInfo& knob : list_knobs(method)) {
    if (knob.kind != KnobInfo::Kind::kHeads) continue;
    const auto set = HeadSet::parse(knob.value);
    std::vector<bool> out;
    for (int layer = 0; layer < model.n_layers; ++layer) {
      for (int head = 0; head < model.n_heads; ++head) out.push_back(set && set->contains(layer, head));
    }
    return out;
  }
  return std::nullopt;
}

bool is_needed(Method& method, const Need& need) {
  const auto value_in = [&](Method& of) {
    const auto knobs = list_knobs(of);
    const auto it = std::find_if(knobs.begin(), knobs.end(), [&](const KnobInfo& k) { return k.name == need.knob; });
    return it == knobs.end() ? std::string() : it->value;
  };
  if (need.knob.empty()) return true;
  if (!need.value.empty()) return value_in(method) == need.value;
  return value_in(method) != value_in(*make_method(method.info().name));
}

// The columns of the head profile that the method reads with these knobs.
Status check_needs(Method& method, const ModelShape& model) {
  for (const Need& need : needs_of(method.info())) {
    if (!is_needed(method, need)) continue;
    if (model.profile && model.profile->columns.contains(need.column)) continue;
    return make_error(ErrorCode::kUsage,
                      "{} needs the {} values of a head profile{}; make one with: fovea profile -m MODEL{}",
                      method.info().name, need.column, model.profile ? ", and this model's has none" : "",
                      model.profile ? " --again" : "");
  }
  return {};
}

}  // namespace

Status Pipeline::add(std::string_view name, const Knobs& knobs, const ModelShape& model) {
  std::unique_ptr<Method> method = make_method(name);
  if (!method) {
    return no_such_method(name);
  }
  const MethodInfo& info = method->info();
  for (const auto& other : methods_) {
    if (!can_compose(info, other->info())) {
      return make_error(ErrorCode::kUsage, "{} and {} cannot run together", other->info().name, info.name);
    }
  }
  std::string text(info.name);
  for (auto it = knobs.begin(); it != knobs.end(); ++it) {
    const std::string &knob = it->first, &value = it->second;
    if (std::any_of(knobs.begin(), it, [&](const auto& before) { return before.first == knob; }))
      return make_error(ErrorCode::kUsage, "{}: knob {} is given twice", info.name, quote(knob, 40));
    FOVEA_RETURN_IF_ERROR(set_knob(*method, knob, value));
    text += fmt::format(":{}={}", knob, value);
  }
  FOVEA_RETURN_IF_ERROR(check_needs(*method, model));
  if (Status bound = method->bind(model); !bound) {
    return make_error(bound.error().code, "{}: {}", info.name, bound.error().message);
  }
  for (const tensor::Parameter& p : method->parameters()) {
    if (p.target->defined()) continue;
    const tensor::Shape shape = p.shape.size() == 2 ? tensor::Shape{p.shape[1], p.shape[0]} : tensor::Shape{p.shape[0]};
    const std::string own = tensor_name(info, p.name);
    *p.target = tensor::Weight::from(own, tensor::draw(p.init, shape, /*seed=*/0, own));
  }
  const auto heads = heads_of(*method, model);
  const auto [claimed, first] = claimed_.try_emplace(info.name, heads.value_or(std::vector<bool>()));
  if (!first) {
    if (!heads) return make_error(ErrorCode::kUsage, "{} is named twice; all its knobs go behind one name", info.name);
    for (size_t i = 0; i < heads->size(); ++i) {
      const auto n_heads = static_cast<size_t>(model.n_heads);
      if ((*heads)[i] && claimed->second[i])
        return make_error(ErrorCode::kUsage, "{} is named twice for head {}.{}", info.name, i / n_heads, i % n_heads);
      if ((*heads)[i]) claimed->second[i] = true;
    }
  }
  spec_ = methods_.empty() ? text : spec_ + "," + text;
  methods_.push_back(std::move(method));
  return {};
}

Status Pipeline::add_policy_file(const std::string& path, const ModelShape& model) {
  FOVEA_ASSIGN_OR_RETURN(const std::vector<PolicyEntry> entries, read_policy_file(path));
  for (const PolicyEntry& entry : entries) {
    if (entry.method == "dense" || entry.method == "auto") {
      if (entries.size() == 1 && entry.knobs.empty()) return {};
      return make_error(ErrorCode::kUsage, "{}, {}: {} stands alone", quote(path, 4096), entry.place, entry.method);
    }
    Knobs knobs;
    for (const PolicyEntry::Knob& knob : entry.knobs) {
      // Tried alone first, so that a bad one is told from its neighbours.
      if (const std::unique_ptr<Method> trial = make_method(entry.method)) {
        if (const Status set = set_knob(*trial, knob.name, knob.value); !set)
          return make_error(set.error().code, "{}, {}: {}", quote(path, 4096), knob.place, set.error().message);
      }
      knobs.emplace_back(knob.name, knob.value);
    }
    if (const Status added = add(entry.method, knobs, model); !added)
      return make_error(added.error().code, "{}, {}: {}", quote(path, 4096), entry.place, added.error().message);
  }
  return {};
}

Result<Pipeline> Pipeline::parse(std::string_view spec, const ModelShape& model) {
  Pipeline pipeline;
  if (spec == "dense" || spec == "auto") return pipeline;
  if (!spec.empty() && spec[0] == '@') {
    if (spec.size() == 1) return make_error(ErrorCode::kUsage, "@ without the name of a policy file");
    FOVEA_RETURN_IF_ERROR(pipeline.add_policy_file(std::string(spec.substr(1)), model));
    return pipeline;
  }
  struct Entry {
    std::string_view name;
    Knobs knobs;
  };
  std::vector<Entry> entries;
  if (spec.ends_with(".json"))
    return make_error(ErrorCode::kUsage, "--attention {}: a file of methods is named with @ before it", quote(spec));
  for (std::string_view part : split(spec, ',')) {
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
    const std::vector<std::string_view> fields = split(part, ':');
    size_t first_knob = 0;
    if (fields[0].find('=') == std::string_view::npos) {
      if (fields[0].empty())
        return make_error(ErrorCode::kUsage, "--attention {}: a method's name is missing", quote(spec));
      if (fields[0] == "dense" || fields[0] == "auto") {
        return make_error(ErrorCode::kUsage, "--attention {}: {} stands alone", quote(spec), fields[0]);
      }
      entries.push_back({fields[0], {}});
      first_knob = 1;
    } else if (entries.empty()) {
      return make_error(ErrorCode::kUsage, "--attention {}: knob {} comes before any method", quote(spec),
                        quote(fields[0]));
    }
    for (size_t i = first_knob; i < fields.size(); ++i) {
      const size_t equals = fields[i].find('=');
      if (equals == std::string_view::npos || equals == 0) {
        return make_error(ErrorCode::kUsage, "--attention {}: {} should read KNOB=VALUE", quote(spec),
                          quote(fields[i]));
      }
      entries.back().knobs.emplace_back(fields[i].substr(0, equals), fields[i].substr(equals + 1));
    }
  }
  for (const Entry& entry : entries) FOVEA_RETURN_IF_ERROR(pipeline.add(entry.name, entry.knobs, model));
  return pipeline;
}

bool Pipeline::keeps_state() const {
  return std::any_of(methods_.begin(), methods_.end(), [](const auto& m) { return m->begin_sequence() != nullptr; });
}

SequenceState* Pipeline::state(size_t method, SequenceId sequence) {
  auto& states = states_[sequence];
  if (states.empty()) {
    for (const auto& m : methods_) states.push_back(m->begin_sequence());
  }
  return states[method].get();
}

uint64_t Pipeline::state_bytes(SequenceId sequence) const {
  uint64_t bytes = 0;
  if (const auto it = states_.find(sequence); it != states_.end()) {
    for (const auto& state : it->second) bytes += state ? state->bytes() : 0;
  }
  return bytes;
}

bool Pipeline::can_truncate(SequenceId sequence, int32_t n_tokens) const {
  const auto it = states_.find(sequence);
  return it == states_.end() || std::all_of(it->second.begin(), it->second.end(), [n_tokens](const auto& state) {
           return !state || state->can_truncate(n_tokens);
         });
}

void Pipeline::truncate(SequenceId sequence, int32_t n_tokens) {
  const auto it = states_.find(sequence);
  if (it == states_.end()) return;
  for (const auto& state : it->second) {
    if (state) state->truncate(n_tokens);
  }
}

Pipeline::States Pipeline::copy_states(SequenceId sequence) const {
  States copies;
  if (const auto it = states_.find(sequence); it != states_.end()) {
    for (const auto& state : it->second) copies.push_back(state ? state->clone() : nullptr);
  }
  return copies;
}

void Pipeline::restore(SequenceId sequence, States states) {
  if (!states.empty()) states_[sequence] = std::move(states);
}

void Pipeline::fork(SequenceId from, SequenceId to) { restore(to, copy_states(from)); }

Result<Together> Pipeline::read_together(std::span<const Span> spans) const {
  Together out;
  for (const auto& method : methods_) {
    FOVEA_ASSIGN_OR_RETURN(const Together rows, method->read_together(spans));
    if (rows.empty()) continue;
    out = out.empty() ? rows : Together{std::min(out.begin, rows.begin), std::max(out.end, rows.end)};
  }
  return out;
}

int64_t Pipeline::reach() const {
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const auto& method : methods_) least = std::min(least, method->reach());
  return least;
}

std::vector<std::string_view> Pipeline::only_while_decoding(const ModelShape& model) const {
  std::vector<std::string_view> names;
  for (const auto& method : methods_) {
    if ((method->info().stages & ~uint32_t{kScore | kReweight | kGate}) != 0) continue;
    const auto acts = [&](bool decoding) {
      for (int layer = 0; layer < model.n_layers; ++layer) {
        if (method->gates(layer, decoding)) return true;
        for (int head = 0; head < model.n_heads; ++head)
          if (method->edits_rows(layer, head, decoding)) return true;
      }
      return false;
    };
    if (acts(true) && !acts(false)) names.push_back(method->info().name);
  }
  return names;
}

}  // namespace fovea::attention
