#include "fovea/engine/session.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "fovea/base/check.h"

namespace fovea::engine {

using attention::Batch;

namespace {

// x * 0 is NaN for NaN and Inf. Sixteen sums, so that no addition waits for the last: this runs over every logit.
bool all_finite(std::span<const float> values) {
  constexpr size_t kSums = 16;
  float sums[kSums] = {};
  size_t i = 0;
  for (; i + kSums <= values.size(); i += kSums) {
    for (size_t lane = 0; lane < kSums; ++lane) sums[lane] += values[i + lane] * 0.0f;
  }
  for (; i < values.size(); ++i) sums[0] += values[i] * 0.0f;
  return std::none_of(std::begin(sums), std::end(sums), [](float sum) { return std::isnan(sum); });
}

}  // namespace

Session::Session(std::shared_ptr<const Model> model, const SessionOptions& options)
    : model_(std::move(model)),
      options_(options),
      shape_(model_->shape()),
      n_ctx_(options.n_ctx > 0 ? options.n_ctx : shape_.n_ctx),
      cache_({shape_.n_layers, shape_.n_kv_heads, shape_.head_dim,
              options.cache_type.value_or(options.numerics == kernels::Numerics::kExact ? kernels::KvType::kF32
                                                                                        : kernels::KvType::kI16)}),
      hooks_(shape_.n_layers) {
  shape_.profile = options_.profile.get();
}

Result<std::unique_ptr<Session>> Session::create(std::shared_ptr<const Model> model, const SessionOptions& options) {
  const int trained = model->shape().n_ctx;
  if (options.n_ctx < 0 || (options.n_ctx > trained && !options.beyond_training)) {
    return make_error(ErrorCode::kUsage, "a context of {} tokens was asked for; this model has 1 to {}", options.n_ctx,
                      trained);
  }
  if (options.chunk < 1)
    return make_error(ErrorCode::kUsage, "a prefill chunk of {} tokens; it must be at least 1", options.chunk);
  std::unique_ptr<Session> session(new Session(std::move(model), options));
  FOVEA_ASSIGN_OR_RETURN(session->pipeline_, attention::Pipeline::parse(options.attention, session->shape_));
  return session;
}

SequenceId Session::fork(SequenceId sequence) {
  const SequenceId copy = begin();
  if (cache_.has(sequence)) cache_.fork(sequence, copy);
  pipeline_.fork(sequence, copy);
  lengths_[copy] = length(sequence);
  return copy;
}

Result<SequenceId> Session::adopt(int32_t n_tokens, const attention::KeyCount& keys,
                                  const std::function<Status(attention::KvCache&, SequenceId)>& fill) {
  FOVEA_CHECK(!pipeline_.keeps_state(), "session: {} keeps state that a cache alone does not hold", pipeline_.spec());
  const SequenceId sequence = begin();
  cache_.create(sequence);
  if (Status filled = fill(cache_, sequence); !filled) {
    remove(sequence);
    return std::move(filled.error());
  }
  lengths_[sequence] = n_tokens;
  keys_.seen += keys.seen;
  keys_.dense += keys.dense;
  return sequence;
}

void Session::remove(SequenceId sequence) {
  cache_.remove(sequence);
  pipeline_.remove(sequence);
  lengths_.erase(sequence);
}

int32_t Session::length(SequenceId sequence) const {
  const auto it = lengths_.find(sequence);
  return it == lengths_.end() ? 0 : it->second;
}

bool Session::can_truncate(SequenceId sequence, int32_t n) const {
  const int32_t fed = length(sequence);
  if (n == 0 || n == fed) return true;
  for (int layer = 0; layer < shape_.n_layers; ++layer) {
    for (int kv_head = 0; kv_head < shape_.n_kv_heads; ++kv_head) {
      if (cache_.n_keys(sequence, layer, kv_head) != fed) return false;  // a later row may have needed less than row n
    }
  }
  return pipeline_.can_truncate(sequence, n);
}

void Session::truncate(SequenceId sequence, int32_t n) {
  FOVEA_CHECK(n >= 0 && n <= length(sequence), "session: truncate to {} of {} tokens", n, length(sequence));
  FOVEA_CHECK(can_truncate(sequence, n), "session: {} cannot go back to {} of {} tokens", pipeline_.spec(), n,
              length(sequence));
  if (n == length(sequence)) return;
  if (n == 0) {
    remove(sequence);
    return;
  }
  cache_.truncate(sequence, n);
  pipeline_.truncate(sequence, n);
  lengths_[sequence] = n;
}

void Session::stop_observing(attention::RowObserver* observer) {
  observers_.erase(std::remove(observers_.begin(), observers_.end(), observer), observers_.end());
}

Status Session::check_tokens(std::span<const int32_t> tokens) const {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= shape_.vocab_size) {
      return make_error(ErrorCode::kUsage, "token {} is id {}; the vocabulary has ids 0 to {}", i, tokens[i],
                        shape_.vocab_size - 1);
    }
  }
  return {};
}

Status Session::check_room(SequenceId sequence, int64_t n_tokens) const {
  const int64_t wanted = length(sequence) + n_tokens;
  if (wanted <= n_ctx_) return {};
  return make_error(ErrorCode::kLimit, "{} tokens do not fit the context of {}", wanted, n_ctx_);
}

Result<Tensor> Session::forward(const Batch& batch) {
  tensor::Exec exec{.arena = &arena_, .numerics = options_.numerics};
  tensor::ExecScope scope(exec);
  const models::Config& config = model_->config();
  attention::Attend attend({.model = shape_,
                            .rope = config.rope,
                            .batch = batch,
                            .cache = &cache_,
                            .pipeline = &pipeline_,
                            .hooks = hooks_.active() ? &hooks_ : nullptr,
                            .observers = observers_,
                            .memory = &attend_memory_});
  Tensor logits = model_->family().forward(batch, attend, hooks_);
  keys_.seen += attend.key_count().seen;
  keys_.dense += attend.key_count().dense;
  FOVEA_RETURN_IF_ERROR(model_->gguf().check_intact());
  if (logits.defined() && logits.elements() > 0) {
    if (!all_finite(logits.values())) {
      return make_error(ErrorCode::kData,
                        "{}: the model's answer is not a number (NaN or Inf); fovea check says which weights are bad",
                        model_->gguf().name());
    }
  }
  return logits;
}

Result<std::vector<float>> Session::prefill(SequenceId sequence, std::span<const int32_t> tokens,
                                            const PrefillOptions& options) {
  if (tokens.empty()) return make_error(ErrorCode::kUsage, "the prompt has no tokens");
  FOVEA_RETURN_IF_ERROR(check_tokens(tokens));
  const auto total = static_cast<int64_t>(tokens.size());
  FOVEA_RETURN_IF_ERROR(check_room(sequence, total));
  Tensor logits;
  for (int64_t first = 0; first < total; first += options_.chunk) {
    if (options.cancel && options.cancel->load()) return make_error(ErrorCode::kCancelled, "interrupted");
    const int64_t n = std::min<int64_t>(options_.chunk, total - first);
    Batch batch;
    batch.add(tokens.subspan(static_cast<size_t>(first), static_cast<size_t>(n)), length(sequence), sequence);
    if (options.on_logits) {
      for (int32_t i = 0; i < n; ++i) batch.logit_rows.push_back(i);
    } else if (first + n == total) {
      batch.logit_rows.push_back(static_cast<int32_t>(n - 1));
    }
    FOVEA_ASSIGN_OR_RETURN(logits, forward(batch));
    lengths_[sequence] = length(sequence) + static_cast<int32_t>(n);
    if (options.on_logits) FOVEA_RETURN_IF_ERROR(options.on_logits(first, logits));
    if (options.progress) options.progress(first + n, total);
  }
  const std::span<const float> last = logits.values().last(static_cast<size_t>(shape_.vocab_size));
  return std::vector<float>(last.begin(), last.end());
}

Result<Tensor> Session::decode(std::span<const Step> steps) {
  Batch& batch = step_;
  batch.clear();
  for (size_t i = 0; i < steps.size(); ++i) {
    FOVEA_RETURN_IF_ERROR(check_tokens({&steps[i].token, 1}));
    FOVEA_RETURN_IF_ERROR(check_room(steps[i].sequence, 1));
    for (size_t j = 0; j < i; ++j)
      FOVEA_CHECK(steps[j].sequence != steps[i].sequence, "decode: sequence {} twice", steps[i].sequence);
    batch.add({&steps[i].token, 1}, length(steps[i].sequence), steps[i].sequence, /*is_decoding=*/true);
    batch.logit_rows.push_back(static_cast<int32_t>(i));
  }
  FOVEA_ASSIGN_OR_RETURN(Tensor logits, forward(batch));
  for (const Step& step : steps) ++lengths_[step.sequence];
  return logits;
}

bool Session::can_verify() const {
  if (hooks_.active() || pipeline_.keeps_state()) return false;
  for (const auto& method : pipeline_.methods()) {
    if (attention::allowed_distance(method->info(), "chunks") > 0) return false;
    for (int layer = 0; layer < shape_.n_layers; ++layer) {
      for (int kv_head = 0; kv_head < shape_.n_kv_heads; ++kv_head) {
        if (method->max_keys(layer, kv_head) != std::numeric_limits<int64_t>::max()) return false;
      }
    }
  }
  return true;
}

Result<Tensor> Session::verify(SequenceId sequence, std::span<const int32_t> tokens) {
  FOVEA_CHECK(can_verify(), "session: {} cannot take tokens back", pipeline_.spec());
  FOVEA_RETURN_IF_ERROR(check_tokens(tokens));
  FOVEA_RETURN_IF_ERROR(check_room(sequence, static_cast<int64_t>(tokens.size())));
  Batch batch;
  batch.add(tokens, length(sequence), sequence, /*is_decoding=*/true);
  for (int32_t row = 0; row < batch.size(); ++row) batch.logit_rows.push_back(row);
  FOVEA_ASSIGN_OR_RETURN(Tensor logits, forward(batch));
  lengths_[sequence] = length(sequence) + static_cast<int32_t>(tokens.size());
  return logits;
}

}  // namespace fovea::engine
