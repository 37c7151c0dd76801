#include "fovea/engine/session.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/engine/method_weights.h"

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
      n_ctx_(shape_.n_ctx),
      cache_(attention::CacheShape::of(
          shape_, options.cache_type.value_or(options.numerics == kernels::Numerics::kExact ? kernels::KvType::kF32
                                                                                            : kernels::KvType::kI16))),
      hooks_(model_->family().hooks()) {
  shape_.profile = options_.profile.get();
}

Result<std::unique_ptr<Session>> Session::create(std::shared_ptr<const Model> model, const SessionOptions& options) {
  if (options.chunk < 1)
    return make_error(ErrorCode::kUsage, "a prefill chunk of {} tokens; it must be at least 1", options.chunk);
  if (options.cache_type && options.cache_type->k != options.cache_type->v &&
      (options.cache_type->k == kernels::KvType::kF32 || options.cache_type->v == kernels::KvType::kF32))
    return make_error(ErrorCode::kUsage, "keys as {} and values as {}: f32 goes with f32 only",
                      kernels::name_of(options.cache_type->k), kernels::name_of(options.cache_type->v));
  std::unique_ptr<Session> session(new Session(std::move(model), options));
  FOVEA_ASSIGN_OR_RETURN(session->pipeline_, session->make_pipeline(options.attention));
  const int most = session->context_of(session->pipeline_);
  if (options.n_ctx < 0 || options.n_ctx > most) {
    return make_error(ErrorCode::kUsage, "a context of {} tokens was asked for; this model has 1 to {}{}",
                      options.n_ctx, most, session->pipeline_.dense() ? "" : " with this attention");
  }
  session->n_ctx_ = options.n_ctx > 0 ? options.n_ctx : options.beyond_training ? session->shape_.n_ctx : most;
  if (options.n_ctx == 0) session->n_ctx_ = std::min(session->n_ctx_, session->model_->config().short_context);
  return session;
}

Result<attention::Pipeline> Session::make_pipeline(std::string_view spec) const {
  FOVEA_ASSIGN_OR_RETURN(attention::Pipeline pipeline, attention::Pipeline::parse(spec, shape_));
  FOVEA_RETURN_IF_ERROR(bind_method_weights(model_->source(), pipeline));
  return pipeline;
}

int context_of(const attention::Pipeline& pipeline, const attention::ModelShape& model) {
  if (pipeline.reach() > model.n_ctx) return model.n_ctx;
  return std::min(static_cast<int>(models::ModelSizes::kMaxContext), model.max_positions);
}

int Session::context_of(const attention::Pipeline& pipeline) const {
  return options_.beyond_training ? std::min(static_cast<int>(models::ModelSizes::kMaxContext), shape_.max_positions)
                                  : engine::context_of(pipeline, shape_);
}

SequenceId Session::fork(SequenceId sequence) {
  const SequenceId copy = begin();
  if (cache_.has(sequence)) cache_.fork(sequence, copy);
  pipeline_of(sequence).fork(sequence, copy);
  if (const auto own = own_.find(sequence); own != own_.end())
    own_[copy] = {own->second.pipeline, {}, own->second.spans, own->second.n_prompt, own->second.adapters};
  lengths_[copy] = length(sequence);
  return copy;
}

Status Session::set_attention(SequenceId sequence, std::string_view spec) {
  FOVEA_CHECK(length(sequence) == 0, "session: sequence {} has {} tokens and keeps its attention", sequence,
              length(sequence));
  FOVEA_ASSIGN_OR_RETURN(attention::Pipeline pipeline, make_pipeline(spec));
  own_[sequence].pipeline = std::make_shared<attention::Pipeline>(std::move(pipeline));
  return {};
}

void Session::set_spans(SequenceId sequence, std::vector<attention::Span> spans) {
  own_[sequence].spans = std::move(spans);
}

void Session::set_adapters(SequenceId sequence, std::shared_ptr<const tensor::Adapters> adapters) {
  FOVEA_CHECK(length(sequence) == 0, "session: sequence {} has {} tokens and keeps its adapters", sequence,
              length(sequence));
  own_[sequence].adapters = std::move(adapters);
}

const tensor::Adapters* Session::adapters(SequenceId sequence) const {
  const auto own = own_.find(sequence);
  return own != own_.end() && own->second.adapters ? own->second.adapters->get() : adapters();
}

const attention::Pipeline& Session::pipeline(SequenceId sequence) const {
  const auto own = own_.find(sequence);
  return own != own_.end() && own->second.pipeline ? *own->second.pipeline : pipeline_;
}

attention::Pipeline& Session::pipeline_of(SequenceId sequence) {
  return const_cast<attention::Pipeline&>(std::as_const(*this).pipeline(sequence));  // of this object, not const
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
  keys_ += keys;
  return sequence;
}

void Session::remove(SequenceId sequence) {
  cache_.remove(sequence);
  pipeline_of(sequence).remove(sequence);
  lengths_.erase(sequence);
  own_.erase(sequence);
}

int32_t Session::length(SequenceId sequence) const {
  const auto it = lengths_.find(sequence);
  return it == lengths_.end() ? 0 : it->second;
}

bool Session::can_truncate(SequenceId sequence, int32_t n) const {
  const int32_t fed = length(sequence);
  if (n == 0 || n == fed) return true;
  for (int layer = 0; layer < shape_.n_layers; ++layer) {
    const attention::AttentionShape at = shape_.site(layer);
    // Row n sees no key before this: a layer with a window has let the older ones go, and needs them no more.
    const int64_t first_seen =
        at.window == INT_MAX || drops_keys(sequence) ? 0 : std::max<int64_t>(0, n + 1 - int64_t{at.window});
    for (int kv_head = 0; kv_head < at.n_kv_heads(); ++kv_head) {
      if (fed - cache_.n_keys(sequence, layer, kv_head) > first_seen) return false;
    }
  }
  return pipeline(sequence).can_truncate(sequence, n);
}

// Whether a method of its program may let keys go.
bool Session::drops_keys(SequenceId sequence) const {
  const auto& methods = pipeline(sequence).methods();
  return std::any_of(methods.begin(), methods.end(),
                     [](const auto& method) { return (method->info().stages & attention::kKeep) != 0; });
}

void Session::truncate(SequenceId sequence, int32_t n) {
  FOVEA_CHECK(n >= 0 && n <= length(sequence), "session: truncate to {} of {} tokens", n, length(sequence));
  FOVEA_CHECK(can_truncate(sequence, n), "session: {} cannot go back to {} of {} tokens", pipeline(sequence).spec(), n,
              length(sequence));
  if (n == length(sequence)) return;
  if (n == 0) {
    cache_.remove(sequence);
    pipeline_of(sequence).remove(sequence);
    lengths_.erase(sequence);
    return;
  }
  cache_.truncate(sequence, n);
  pipeline_of(sequence).truncate(sequence, n);
  lengths_[sequence] = n;
}

void Session::stop_observing(attention::RowObserver* observer) {
  std::erase(observers_, observer);
  for (auto& [sequence, own] : own_) std::erase(own.observers, observer);
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
  if (wanted <= n_ctx_ && wanted <= context_of(pipeline(sequence))) return {};
  return make_error(ErrorCode::kLimit, "{} tokens do not fit the context of {}", wanted,
                    std::min(n_ctx_, context_of(pipeline(sequence))));
}

Status Session::check_makes_text() const {
  if (makes_text()) return {};
  return make_error(ErrorCode::kUnsupported,
                    "{}: a model of the family {} makes vectors of texts and no text; `fovea embed` runs it",
                    model_->source().name(), model_->config().architecture);
}

Result<Tensor> Session::forward(const Batch& batch, std::span<const models::GivenRows> given, bool to_hidden,
                                const std::atomic<bool>* cancel) {
  tensor::Exec exec{.arena = &arena_, .numerics = options_.numerics, .adapters = adapters(), .form = model_->form()};
  tensor::ExecScope scope(exec);
  attention::KeyCount keys;
  Tensor logits =
      models::forward(model_->family(),
                      {.model = shape_,
                       .ropes = model_->config().ropes_for(n_ctx_),
                       .batch = batch,
                       .cache = &cache_,
                       .pipeline = &pipeline_,
                       .observers = observers_,
                       .sequences = contexts_,
                       .memory = &attend_memory_,
                       .cancel = cancel},
                      hooks_, {.given = given, .to_hidden = to_hidden, .adapters = adapters_, .keys = &keys});
  FOVEA_RETURN_IF_ERROR(model_->source().check_intact());
  if (logits.defined() && logits.elements() > 0 && !all_finite(logits.values())) {
    return make_error(
        ErrorCode::kData,
        "{}: the model's answer is not a number (NaN or Inf); fovea check names weights that are not numbers",
        model_->source().name());
  }
  keys_ += keys;
  return logits;
}

// Keys that a method dropped in the pass are gone: such a sequence starts anew.
void Session::roll_back(std::span<const Feed> feeds, std::vector<attention::Pipeline::States>& states) {
  for (size_t i = 0; i < feeds.size(); ++i) {
    const SequenceId sequence = feeds[i].sequence;
    attention::Pipeline& pipeline = pipeline_of(sequence);
    const int32_t fed = length(sequence);
    cache_.truncate(sequence, fed);
    bool whole = fed > 0 && !drops_keys(sequence);
    for (int layer = 0; layer < shape_.n_layers && whole; ++layer) {  // a pass longer than a window's slack
      const attention::AttentionShape at = shape_.site(layer);
      if (at.window == INT_MAX) continue;
      const int64_t unseen = std::max<int64_t>(0, fed + 1 - int64_t{at.window});
      for (int kv = 0; kv < at.n_kv_heads(); ++kv) whole = whole && fed - cache_.n_keys(sequence, layer, kv) <= unseen;
    }
    pipeline.remove(sequence);
    if (whole) {
      pipeline.restore(sequence, std::move(states[i]));
    } else {
      cache_.remove(sequence);
      lengths_.erase(sequence);
    }
  }
}

Result<Tensor> Session::step(std::span<const Feed> feeds, const std::atomic<bool>* cancel) {
  FOVEA_RETURN_IF_ERROR(check_makes_text());
  return pass(feeds, /*to_hidden=*/false, cancel);
}

Result<Tensor> Session::hidden(std::span<const Feed> feeds, const std::atomic<bool>* cancel) {
  for (const Feed& feed : feeds) {
    if (!makes_text() && length(feed.sequence) > 0)
      return make_error(ErrorCode::kUsage, "an encoder reads a text in one pass, and {} of its tokens were fed",
                        length(feed.sequence));
  }
  return pass(feeds, /*to_hidden=*/true, cancel);
}

Result<Tensor> Session::pass(std::span<const Feed> feeds, bool to_hidden, const std::atomic<bool>* cancel) {
  FOVEA_CHECK(!in_pass_, "session: a forward pass was begun inside another");
  struct InPass {
    bool& is_in;
    explicit InPass(bool& in) : is_in(in) { is_in = true; }
    ~InPass() { is_in = false; }
  } const in_pass(in_pass_);
  Batch& batch = step_;
  batch.clear();
  contexts_.clear();
  adapters_.clear();
  std::vector<models::GivenRows> given;
  bool stateful = false;
  for (size_t i = 0; i < feeds.size(); ++i) {
    const Feed& feed = feeds[i];
    FOVEA_CHECK(!feed.tokens.empty(), "step: no token for sequence {}", feed.sequence);
    FOVEA_CHECK(!feed.x.defined() || feed.x.dim(0) == static_cast<int64_t>(feed.tokens.size()),
                "step: {} rows for {} tokens of sequence {}", feed.x.dim(0), feed.tokens.size(), feed.sequence);
    FOVEA_RETURN_IF_ERROR(check_tokens(feed.tokens));
    FOVEA_RETURN_IF_ERROR(check_room(feed.sequence, static_cast<int64_t>(feed.tokens.size())));
    FOVEA_RETURN_IF_ERROR(check_together(feed));
    for (size_t j = 0; j < i; ++j)
      FOVEA_CHECK(feeds[j].sequence != feed.sequence, "step: sequence {} twice", feed.sequence);
    const auto first = static_cast<int32_t>(batch.size());
    batch.add(feed.tokens, length(feed.sequence), feed.sequence, feed.phase);
    const auto end = static_cast<int32_t>(batch.size());
    if (feed.x.defined()) given.push_back({first, feed.x});
    if (feed.logits == Logits::kLast) batch.logit_rows.push_back(end - 1);
    for (int32_t row = first; row < end && feed.logits == Logits::kAll; ++row) batch.logit_rows.push_back(row);
    if (const auto own = own_.find(feed.sequence); own != own_.end()) {
      contexts_.push_back({feed.sequence, own->second.pipeline ? own->second.pipeline.get() : &pipeline_,
                           own->second.observers, own->second.spans, own->second.n_prompt});
    }
    stateful = stateful || pipeline(feed.sequence).keeps_state();
  }
  if (std::any_of(feeds.begin(), feeds.end(), [&](const Feed& f) { return adapters(f.sequence) != adapters(); })) {
    for (const Feed& feed : feeds) adapters_.push_back({feed.sequence, adapters(feed.sequence)});
  }
  std::vector<attention::Pipeline::States> states;
  if (stateful) {
    for (const Feed& feed : feeds) states.push_back(pipeline(feed.sequence).copy_states(feed.sequence));
  }
  const auto undo = [&] {
    states.resize(feeds.size());
    roll_back(feeds, states);
  };
  try {
    Result<Tensor> logits = forward(batch, given, to_hidden, cancel);
    if (logits) {
      for (const Feed& feed : feeds)
        lengths_[feed.sequence] = length(feed.sequence) + static_cast<int32_t>(feed.tokens.size());
    } else {
      undo();
    }
    return logits;
  } catch (const attention::Cancelled&) {
    undo();
    return make_error(ErrorCode::kCancelled, "interrupted");
  } catch (...) {
    undo();
    throw;
  }
}

Result<std::vector<float>> Session::prefill(SequenceId sequence, std::span<const int32_t> tokens,
                                            const PrefillOptions& options) {
  if (tokens.empty()) return make_error(ErrorCode::kUsage, "the prompt has no tokens");
  FOVEA_RETURN_IF_ERROR(check_makes_text());
  FOVEA_RETURN_IF_ERROR(check_tokens(tokens));
  const auto total = static_cast<int64_t>(tokens.size());
  FOVEA_RETURN_IF_ERROR(check_room(sequence, total));
  const int32_t before = length(sequence);
  own_[sequence].n_prompt = before + static_cast<int32_t>(total);
  std::vector<attention::Pipeline::States> states(1);
  if (total > options_.chunk && pipeline(sequence).keeps_state()) states[0] = pipeline(sequence).copy_states(sequence);
  const auto take_back = [&] {
    if (length(sequence) <= before) return;  // the pass that failed took back its own
    lengths_[sequence] = before;
    const Feed all{.sequence = sequence, .tokens = tokens};
    roll_back({&all, 1}, states);
  };
  try {
    Result<Tensor> logits = prefill_chunks(sequence, tokens, options);
    if (!logits) {
      if (logits.error().code != ErrorCode::kCancelled) take_back();
      return logits.error();
    }
    const std::span<const float> last = logits->values().last(static_cast<size_t>(shape_.vocab_size));
    return std::vector<float>(last.begin(), last.end());
  } catch (...) {
    take_back();
    throw;
  }
}

Result<attention::Together> Session::read_together(SequenceId sequence) const {
  const auto own = own_.find(sequence);
  return pipeline(sequence).read_together(own == own_.end() ? std::span<const attention::Span>() : own->second.spans);
}

Status Session::check_together(const Feed& feed) const {
  FOVEA_ASSIGN_OR_RETURN(const attention::Together rows, read_together(feed.sequence));
  const int32_t first = length(feed.sequence), end = first + static_cast<int32_t>(feed.tokens.size());
  if (rows.empty() || first >= rows.end || end <= rows.begin || (first <= rows.begin && end >= rows.end)) return {};
  return make_error(ErrorCode::kUsage, "with {} tokens {} to {} are read in one pass, and this one has {} to {}",
                    pipeline(feed.sequence).spec(), rows.begin, rows.end - 1, first, end - 1);
}

Result<Tensor> Session::prefill_chunks(SequenceId sequence, std::span<const int32_t> tokens,
                                       const PrefillOptions& options) {
  const auto total = static_cast<int64_t>(tokens.size());
  FOVEA_ASSIGN_OR_RETURN(const attention::Together together, read_together(sequence));
  const int64_t before = length(sequence);
  Tensor logits;
  for (int64_t first = 0, n; first < total; first += n) {
    if (options.cancel && options.cancel->load()) return make_error(ErrorCode::kCancelled, "interrupted");
    n = std::min<int64_t>(options_.chunk, total - first);
    if (const int64_t end = before + first + n; !together.empty() && end > together.begin && end < together.end)
      n = std::min(total, together.end - before) - first;
    const bool last = first + n == total;
    const Feed feed{sequence, tokens.subspan(static_cast<size_t>(first), static_cast<size_t>(n)),
                    options.on_logits ? Logits::kAll
                    : last            ? Logits::kLast
                                      : Logits::kNone,
                    last && !options.more ? attention::Phase::kPromptEnd : attention::Phase::kPrompt};
    FOVEA_ASSIGN_OR_RETURN(logits, step({&feed, 1}, options.cancel));
    if (options.on_logits) FOVEA_RETURN_IF_ERROR(options.on_logits(first, logits));
    if (options.progress) options.progress(first + n, total);
  }
  return logits;
}

Result<Tensor> Session::decode(std::span<const Step> steps) {
  feeds_.clear();
  for (const Step& one : steps) feeds_.push_back({one.sequence, {&one.token, 1}});
  return step(feeds_);
}

bool Session::can_verify(SequenceId sequence) const {
  const attention::Pipeline& program = pipeline(sequence);
  if (hooks_.active() || program.keeps_state() || drops_keys(sequence)) return false;
  return std::all_of(program.methods().begin(), program.methods().end(),
                     [](const auto& method) { return attention::allowed_distance(method->info(), "chunks") == 0; });
}

Result<Tensor> Session::verify(SequenceId sequence, std::span<const int32_t> tokens) {
  FOVEA_CHECK(can_verify(sequence), "session: {} cannot take tokens back", pipeline(sequence).spec());
  const Feed feed{sequence, tokens, Logits::kAll};
  return step({&feed, 1});
}

}  // namespace fovea::engine
