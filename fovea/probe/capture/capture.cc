#include "fovea/probe/capture/capture.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <memory>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/base/numbers.h"

namespace fovea::probe {

using attention::HookMap;
using attention::HookPoint;
using attention::ModelShape;
using attention::Site;
using formats::SafeDtype;
using formats::SafeTensor;

namespace {

bool has_rows(Site site) { return site == Site::kScores || site == Site::kPattern; }

double elements(const std::vector<int64_t>& shape) {
  double product = 1;
  for (const int64_t dim : shape) product *= static_cast<double>(dim);
  return product;
}

// In double: an estimate must not wrap.
double bytes_of(const std::vector<SafeTensor>& tensors) {
  double bytes = 0;
  for (const SafeTensor& tensor : tensors)
    bytes += elements(tensor.shape) * static_cast<double>(formats::bytes_of(tensor.dtype));
  return bytes;
}

std::vector<int> heads_of(const attention::HeadSet& set, const ModelShape& model, int layer) {
  std::vector<int> heads;
  for (int head = 0; head < model.n_heads; ++head) {
    if (set.contains(layer, head)) heads.push_back(head);
  }
  return heads;
}

}  // namespace

uint64_t memory_bytes() {
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  uint64_t bytes = pages > 0 && page > 0 ? static_cast<uint64_t>(pages) * static_cast<uint64_t>(page) : 0;
  std::ifstream in("/sys/fs/cgroup/memory.max");
  uint64_t group = 0;
  if (in >> group && group > 0) bytes = bytes == 0 ? group : std::min(bytes, group);
  return bytes;
}

Result<CapturePlan> CapturePlan::estimate(const ModelShape& model, const HookMap& hooks, int64_t n_tokens,
                                          const CaptureOptions& options) {
  CapturePlan plan(hooks);
  plan.model_ = model;
  plan.n_tokens_ = n_tokens;
  plan.options_ = options;
  if (options.hooks.empty())
    return make_error(ErrorCode::kUsage, "no hook was named; fovea show MODEL --hooks lists them");
  FOVEA_RETURN_IF_ERROR(options.heads.check(model));
  for (const std::string& name : options.hooks) {
    FOVEA_ASSIGN_OR_RETURN(const std::vector<HookPoint> points, attention::find_hooks(name, hooks));
    for (const HookPoint& point : points) {
      if (std::find(plan.points_.begin(), plan.points_.end(), point) == plan.points_.end())
        plan.points_.push_back(point);
    }
  }
  bool any_rows = false, any_pattern = false;
  std::vector<HookPoint> kept;
  for (const HookPoint& point : plan.points_) {
    const std::string& name = hooks.name(point);
    if (!has_rows(point.site)) {
      kept.push_back(point);
      plan.tensors_.push_back({name, SafeDtype::kF32, hooks.shape(point, n_tokens, n_tokens)});
      continue;
    }
    any_rows = true;
    any_pattern |= point.site == Site::kPattern;
    const std::vector<int> heads = heads_of(options.heads, model, point.layer);
    if (heads.empty()) continue;
    kept.push_back(point);
    const auto n_heads = static_cast<int64_t>(heads.size());
    const auto add = [&](const std::string& full_name, SafeDtype dtype, const std::vector<int64_t>& shape) {
      plan.tensors_.push_back({full_name, dtype, shape});
      if (n_heads < model.n_heads) plan.heads_[full_name] = heads;
    };
    const Reduction& reduction = options.reduction;
    if (point.site == Site::kScores || reduction.kind == Reduction::Kind::kFull) {
      add(name, SafeDtype::kF32, {n_heads, n_tokens, n_tokens});
      continue;
    }
    const std::string reduced = fmt::format("{}.{}", name, reduction.name());
    add(reduced, SafeDtype::kF32, reduction.shape(n_heads, n_tokens));
    if (reduction.kind == Reduction::Kind::kTopK)
      add(reduced + "_positions", SafeDtype::kI32, reduction.shape(n_heads, n_tokens));
  }
  if (!any_pattern && options.reduction.kind != Reduction::Kind::kFull) {
    return make_error(ErrorCode::kUsage, "the reducer {} works on attn.hook_pattern, and none of the hooks is one",
                      options.reduction.to_string());
  }
  if (!any_rows && options.heads.to_string() != "all") {
    return make_error(ErrorCode::kUsage,
                      "heads {} were chosen, but none of the hooks is attn.hook_pattern or attn.hook_attn_scores",
                      options.heads.to_string());
  }
  if (plan.tensors_.empty()) {
    return make_error(ErrorCode::kUsage, "heads {} leave nothing of the hooks to capture", options.heads.to_string());
  }
  plan.points_ = std::move(kept);
  const double bytes = bytes_of(plan.tensors_);
  plan.bytes_ = bytes < 9e18 ? static_cast<uint64_t>(bytes) : std::numeric_limits<uint64_t>::max();
  const uint64_t memory = memory_bytes();
  plan.max_bytes_ = options.max_bytes > 0 ? options.max_bytes
                    : memory > 0          ? memory / 4
                                          : std::numeric_limits<uint64_t>::max();
  return plan;
}

Result<CapturePlan> CapturePlan::make(const ModelShape& model, const HookMap& hooks, int64_t n_tokens,
                                      const CaptureOptions& options) {
  FOVEA_ASSIGN_OR_RETURN(CapturePlan plan, estimate(model, hooks, n_tokens, options));
  FOVEA_RETURN_IF_ERROR(plan.check_limit());
  return plan;
}

Status CapturePlan::check_limit() const {
  if (bytes_ <= max_bytes_) return {};
  const auto largest = std::max_element(tensors_.begin(), tensors_.end(), [](const SafeTensor& a, const SafeTensor& b) {
    return elements(a.shape) < elements(b.shape);
  });
  std::string advice;
  const bool patterns =
      std::any_of(points_.begin(), points_.end(), [](const HookPoint& p) { return p.site == Site::kPattern; });
  if (patterns) {
    for (const char* other : {"topk:16", "block:64", "entropy"}) {
      CaptureOptions options = options_;
      options.reduction = Reduction::parse(other).value();
      const auto plan = estimate(model_, hooks_, n_tokens_, options);
      if (plan && plan->bytes() < bytes_ / 2)
        advice += fmt::format("{}--reduce {} would take {}", advice.empty() ? "" : ", ", other,
                              size_text(static_cast<double>(plan->bytes())));
    }
    if (!advice.empty()) advice += "; ";
  }
  return make_error(ErrorCode::kLimit,
                    "the capture of {} tokens takes {}, over the limit of {} (largest: {} [{}]); {}name fewer hooks{} "
                    "or raise --max-bytes",
                    n_tokens_, size_text(static_cast<double>(bytes_)), size_text(static_cast<double>(max_bytes_)),
                    largest->name, fmt::join(largest->shape, ", "), advice, patterns ? " or --heads," : "");
}

void Capture::collect(const std::string& name, const HookPoint& point, const tensor::Tensor& value) {
  Buffer& buffer = buffers_.at(name);
  const int64_t total = plan_.n_tokens_;
  if (point.site != Site::kScores) {
    const int64_t n = value.dim(0), width = value.elements() / std::max<int64_t>(1, n);
    FOVEA_CHECK(buffer.rows + n <= total, "capture: {} gave more than {} rows", name, total);
    std::copy_n(value.data(), value.elements(), buffer.values.data() + buffer.rows * width);
    buffer.rows += n;
    return;
  }
  const int64_t n = value.dim(1), n_keys = value.dim(2);
  if (n_keys != buffer.rows + n) {
    failed_ = make_error(ErrorCode::kUnsupported,
                         "{}: the attention method drops keys, so that columns of the scores are no positions; capture "
                         "attn.hook_pattern instead",
                         name);
    return;
  }
  const std::vector<int> heads = heads_of(plan_.options_.heads, plan_.model_, point.layer);
  for (size_t h = 0; h < heads.size(); ++h) {
    for (int64_t i = 0; i < n; ++i) {
      const float* from = value.data() + (heads[h] * n + i) * n_keys;
      std::copy_n(from, n_keys, buffer.values.data() + (static_cast<int64_t>(h) * total + buffer.rows + i) * total);
    }
  }
  buffer.rows += n;
}

Status Capture::run(engine::Session& session, std::span<const int32_t> tokens, engine::PrefillOptions options) {
  FOVEA_CHECK(static_cast<int64_t>(tokens.size()) == plan_.n_tokens_, "capture: planned for {} tokens, given {}",
              plan_.n_tokens_, tokens.size());
  buffers_.clear();
  reducer_.reset();
  failed_ = {};
  const attention::SequenceId sequence = session.begin();
  std::vector<attention::HookScope> scopes;
  bool all_logits = false, patterns = false;
  attention::HeadSet pattern_heads;
  for (const HookPoint& point : plan_.points_) {
    const std::string& name = plan_.hooks_.name(point);
    if (point.site == Site::kPattern) {
      patterns = true;
      for (const int head : heads_of(plan_.options_.heads, plan_.model_, point.layer))
        pattern_heads.add(point.layer, head);
      continue;
    }
    all_logits |= point.site >= Site::kLnFinalScale && point.site <= Site::kLogits;
    const auto tensor =
        std::find_if(plan_.tensors_.begin(), plan_.tensors_.end(), [&](const SafeTensor& t) { return t.name == name; });
    buffers_[name].values.assign(static_cast<size_t>(elements(tensor->shape)),
                                 point.site == Site::kScores ? -INFINITY : 0.0f);
    FOVEA_ASSIGN_OR_RETURN(attention::HookScope scope,
                           session.hooks().scoped(name, [this, point](const std::string& fired, tensor::Tensor& value) {
                             if (failed_) collect(fired, point, value);
                           }));
    scopes.push_back(std::move(scope));
  }
  struct Observing {
    engine::Session& session;
    RowReducer* reducer;
    attention::SequenceId sequence;
    ~Observing() {
      if (reducer) session.stop_observing(reducer);
      session.remove(sequence);
    }
  };
  if (patterns) {
    reducer_ =
        std::make_unique<RowReducer>(plan_.options_.reduction, plan_.model_, pattern_heads, sequence, plan_.n_tokens_);
    session.observe(reducer_.get());
  }
  const Observing observing{session, reducer_.get(), sequence};
  if (all_logits && !options.on_logits) options.on_logits = [](int64_t, const tensor::Tensor&) -> Status { return {}; };
  if (session.makes_text()) {
    const auto logits = session.prefill(sequence, tokens, options);
    if (!logits) return logits.error();
  } else {
    const engine::Session::Feed whole{.sequence = sequence, .tokens = tokens, .phase = attention::Phase::kPromptEnd};
    const auto rows = session.hidden({&whole, 1}, options.cancel);
    if (!rows) return rows.error();
  }
  FOVEA_RETURN_IF_ERROR(failed_);
  FOVEA_RETURN_IF_ERROR(session.hooks().check_fired());
  for (const auto& [name, buffer] : buffers_) {
    FOVEA_CHECK(buffer.rows == plan_.n_tokens_, "capture: {} gave {} of {} rows", name, buffer.rows, plan_.n_tokens_);
  }
  for (const HookPoint& point : plan_.points_) {
    if (point.site != Site::kPattern) continue;
    const int64_t due = static_cast<int64_t>(reducer_->heads(point.layer).size()) * plan_.n_tokens_;
    FOVEA_CHECK(reducer_->rows_seen(point.layer) == due, "capture: layer {} gave {} of {} rows", point.layer,
                reducer_->rows_seen(point.layer), due);
  }
  return {};
}

namespace {

// "blocks.3.attn.hook_pattern.topk" -> 3; -1 for any other tensor.
int pattern_layer(const std::string& name, const std::vector<HookPoint>& points, const HookMap& hooks) {
  for (const HookPoint& point : points) {
    if (point.site != Site::kPattern) continue;
    const std::string& pattern = hooks.name(point);
    if (name == pattern || name.starts_with(pattern + ".")) return point.layer;
  }
  return -1;
}

}  // namespace

std::span<const float> Capture::values(const std::string& name) const {
  const auto it = buffers_.find(name);
  if (it != buffers_.end()) return it->second.values;
  const int layer = pattern_layer(name, plan_.points_, plan_.hooks_);
  const bool there = std::any_of(plan_.tensors_.begin(), plan_.tensors_.end(),
                                 [&](const SafeTensor& t) { return t.name == name && t.dtype == SafeDtype::kF32; });
  return layer >= 0 && there && reducer_ ? reducer_->values(layer) : std::span<const float>();
}

std::span<const int32_t> Capture::integers(const std::string& name) const {
  const int layer = pattern_layer(name, plan_.points_, plan_.hooks_);
  const bool there = std::any_of(plan_.tensors_.begin(), plan_.tensors_.end(),
                                 [&](const SafeTensor& t) { return t.name == name && t.dtype == SafeDtype::kI32; });
  return layer >= 0 && there && reducer_ ? reducer_->positions(layer) : std::span<const int32_t>();
}

Status Capture::write(const std::string& path, std::map<std::string, std::string> metadata) const {
  FOVEA_ASSIGN_OR_RETURN(FileWriter file, FileWriter::create(path));
  return write(std::move(file), path, std::move(metadata));
}

Status Capture::write(FileWriter file, const std::string& path, std::map<std::string, std::string> metadata) const {
  for (const auto& [name, heads] : plan_.heads_) metadata[name + ".heads"] = fmt::format("{}", fmt::join(heads, ","));
  FOVEA_ASSIGN_OR_RETURN(auto writer,
                         formats::SafetensorsWriter::create(std::move(file), path, plan_.tensors_, metadata));
  for (const SafeTensor& tensor : plan_.tensors_) {
    FOVEA_RETURN_IF_ERROR(tensor.dtype == SafeDtype::kI32 ? writer.write(integers(tensor.name))
                                                          : writer.write(values(tensor.name)));
  }
  return writer.commit();
}

}  // namespace fovea::probe
