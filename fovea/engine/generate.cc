#include "fovea/engine/generate.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "fovea/engine/lookup.h"
#include "fovea/engine/stop_strings.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::engine {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// The text of an answer while its tokens come.
class AnswerText {
 public:
  // Without a tokenizer it is made of ids.
  AnswerText(const tokenizers::Tokenizer* tokenizer, const GenerateOptions& options, std::string& text)
      : stop_(options.stop), options_(options), text_(text) {
    if (tokenizer) decoder_.emplace(*tokenizer);
  }

  Status push(int32_t token) {
    if (!decoder_) return add((text_.empty() ? "" : " ") + std::to_string(token));
    return add(stop_.push(decoder_->push(token)));
  }
  Status finish() {
    if (!decoder_) return {};
    FOVEA_RETURN_IF_ERROR(add(stop_.push(decoder_->finish())));
    return add(stop_.finish());
  }
  bool stopped() const { return stop_.found(); }

 private:
  Status add(const std::string& sure) {
    text_ += sure;
    return sure.empty() || !options_.on_text ? Status() : options_.on_text(sure);
  }
  std::optional<tokenizers::StreamDecoder> decoder_;
  StopStrings stop_;
  const GenerateOptions& options_;
  std::string& text_;
};

// The logits of the next token, token by token, whether its row is computed now or was computed with a draft.
class Rows {
 public:
  Rows(Session& session, SequenceId sequence, std::vector<float> first, const GenerateOptions& options,
       std::span<const int32_t> history, Generation& out)
      : session_(session),
        sequence_(sequence),
        first_(std::move(first)),
        n_fed_(session.length(sequence)),
        options_(options),
        out_(out) {
    if (options.lookup.max_drafted == 0 || options.n_predict == 0 || options.n_predict == 1 ||
        !session.can_verify(sequence))
      return;
    index_.emplace(static_cast<size_t>(session.n_ctx()));
    for (const int32_t token : history) index_->push(token);
  }
  ~Rows() { forget_rejected(); }
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;

  std::span<const float> logits() const {
    if (!pass_.defined()) return first_;
    const auto width = static_cast<size_t>(session_.shape().vocab_size);
    return pass_.values().subspan(row_ * width, width);
  }
  int32_t n_fed() const { return n_fed_; }  // what the sequence would hold without drafts

  // The token that was sampled from logits().
  Status feed(int32_t token) {
    if (!session_.can_verify(sequence_))
      index_.reset();  // a hook was attached while the answer came: it sees every token from now
    if (!index_) {
      forget_rejected();
      const Session::Step step{sequence_, token};
      FOVEA_ASSIGN_OR_RETURN(pass_, session_.decode({&step, 1}));
      ++n_fed_;
      return {};
    }
    index_->push(token);
    if (row_ < draft_.tokens.size())
      lengths_.learn_token(draft_.match + static_cast<int>(row_), token == draft_.tokens[row_]);
    if (row_ < n_checked_ && token == draft_.tokens[row_]) {
      ++out_.n_accepted;
      ++row_;
      ++n_fed_;
      return {};
    }
    forget_rejected();
    return feed_with_draft(token);
  }

 private:
  Status feed_with_draft(int32_t token) {
    int64_t most = std::min<int64_t>(options_.lookup.max_drafted, session_.n_ctx() - n_fed_ - 1);
    if (options_.n_predict >= 0)  // the last token is never fed
      most = std::min<int64_t>(most, options_.n_predict - static_cast<int64_t>(out_.tokens.size()) - 1);
    index_->find(static_cast<size_t>(most), draft_);
    n_checked_ = draft_.tokens.size();
    if (options_.lookup.adapt)
      n_checked_ = static_cast<size_t>(lengths_.choose(draft_.match, static_cast<int>(draft_.tokens.size())));
    tokens_.assign(1, token);
    tokens_.insert(tokens_.end(), draft_.tokens.begin(), draft_.tokens.begin() + static_cast<ptrdiff_t>(n_checked_));
    const auto start = Clock::now();
    FOVEA_ASSIGN_OR_RETURN(pass_, session_.verify(sequence_, tokens_));
    lengths_.learn_pass(static_cast<int>(tokens_.size()), seconds_since(start));
    row_ = 0;
    ++n_fed_;
    out_.n_drafted += static_cast<int64_t>(n_checked_);
    return {};
  }
  void forget_rejected() {
    if (session_.length(sequence_) > n_fed_) session_.truncate(sequence_, n_fed_);
  }

  Session& session_;
  SequenceId sequence_;
  std::vector<float> first_;  // of the prompt
  Tensor pass_;               // [1 + n_checked_, vocab_size], of the last pass
  size_t row_ = 0;            // of it: the one of the last token
  int32_t n_fed_;
  const GenerateOptions& options_;
  Generation& out_;
  std::optional<LookupIndex> index_;  // none: lookups are off
  LookupIndex::Draft draft_;          // behind the first token of the last pass
  size_t n_checked_ = 0;              // so many of it were in the pass
  std::vector<int32_t> tokens_;
  DraftLength lengths_;
};

// The ids that end an answer. Without a tokenizer those that the files name all the same.
std::set<int32_t> end_ids(const formats::ModelSource& source, const tokenizers::Tokenizer* tokenizer, int32_t n_ids) {
  std::set<int32_t> ends;
  for (int32_t id = 0; tokenizer && id < n_ids; ++id) {
    if (tokenizer->ends_text(id)) ends.insert(id);
  }
  for (const char* key : {"eos", "eot", "eom"}) {
    const std::string name = fmt::format("tokenizer.ggml.{}_token_id", key);
    if (tokenizer || !source.has(name)) continue;
    auto ids = source.get_i64s(name);
    if (const auto one = source.get_i64(name); one) ids = std::vector<int64_t>{*one};
    for (const int64_t id : ids ? *ids : std::vector<int64_t>()) {
      if (id >= 0 && id < n_ids) ends.insert(static_cast<int32_t>(id));
    }
  }
  return ends;
}

}  // namespace

std::string_view name_of(Finish finish) {
  switch (finish) {
    case Finish::kStop: return "stop";
    case Finish::kLength: return "length";
    case Finish::kCancelled: return "cancelled";
  }
  return "";
}

Status check_generation(const GenerateOptions& options, int vocab_size) {
  if (options.n_predict < -1) {
    return make_error(ErrorCode::kUsage, "n_predict is {}; it must be -1 (no limit) or more", options.n_predict);
  }
  if (options.lookup.max_drafted < 0 || options.lookup.max_drafted > LookupOptions::kMost) {
    return make_error(ErrorCode::kUsage, "lookup.max_drafted is {}; it must be in 0 to {}", options.lookup.max_drafted,
                      LookupOptions::kMost);
  }
  if (options.n_logprobs < -1 || options.n_logprobs > GenerateOptions::kMostLogprobs) {
    return make_error(ErrorCode::kUsage, "n_logprobs is {}; it must be in 0 to {}, or -1 for none", options.n_logprobs,
                      GenerateOptions::kMostLogprobs);
  }
  FOVEA_RETURN_IF_ERROR(check_stop_strings(options.stop));
  return check_sampling(options.sampling, vocab_size);
}

Result<Generation> generate(Session& session, SequenceId sequence, std::span<const int32_t> prompt,
                            const GenerateOptions& options) {
  FOVEA_RETURN_IF_ERROR(check_generation(options, session.shape().vocab_size));
  const formats::ModelSource& source = session.model().source();
  std::shared_ptr<const tokenizers::Tokenizer> tokenizer;
  if (source.has_vocabulary()) {
    FOVEA_ASSIGN_OR_RETURN(tokenizer, session.model().tokenizer());
  } else if (!options.stop.empty()) {
    return make_error(ErrorCode::kUsage, "{}: there is no tokenizer, and stop strings are of text", source.name());
  }
  Generation out;
  auto start = Clock::now();
  FOVEA_ASSIGN_OR_RETURN(std::vector<float> logits, session.prefill(sequence, prompt, options.prefill));
  out.n_prompt = static_cast<int64_t>(prompt.size());
  out.prompt_seconds = seconds_since(start);

  start = Clock::now();
  // Rows of the matrix past the vocabulary are padding: no token has their ids.
  const int32_t vocab_size = session.shape().vocab_size;
  const int32_t n_ids = tokenizer ? std::min(tokenizer->vocab_size(), vocab_size) : vocab_size;
  const std::set<int32_t> ends = end_ids(source, tokenizer.get(), n_ids);
  SamplingOptions sampling = options.sampling;
  for (const int32_t id : options.ignore_eos ? ends : std::set<int32_t>())
    sampling.logit_bias[id] = -std::numeric_limits<float>::infinity();
  Sampler sampler(sampling);
  AnswerText text(tokenizer.get(), options, out.text);
  std::vector<int32_t> history(options.before.begin(), options.before.end());
  history.insert(history.end(), prompt.begin(), prompt.end());
  Rows rows(session, sequence, std::move(logits), options, history, out);
  while (options.n_predict < 0 || out.tokens.size() < static_cast<size_t>(options.n_predict)) {
    if (options.cancel && options.cancel->load()) {
      out.finish = Finish::kCancelled;
      break;
    }
    const int32_t token = sampler.sample(rows.logits().first(static_cast<size_t>(n_ids)), history);
    if (!options.ignore_eos && ends.contains(token)) {
      out.finish = Finish::kStop;
      break;
    }
    out.tokens.push_back(token);
    if (options.n_logprobs >= 0)
      out.logprobs.push_back(logprobs_of(rows.logits().first(static_cast<size_t>(n_ids)), token, options.n_logprobs));
    history.push_back(token);
    if (options.on_token) options.on_token(token);
    FOVEA_RETURN_IF_ERROR(text.push(token));
    if (text.stopped()) {
      out.finish = Finish::kStop;
      break;
    }
    const bool last = options.n_predict >= 0 && out.tokens.size() == static_cast<size_t>(options.n_predict);
    if (last || rows.n_fed() >= session.n_ctx()) break;
    FOVEA_RETURN_IF_ERROR(rows.feed(token));
  }
  FOVEA_RETURN_IF_ERROR(text.finish());
  out.predicted_seconds = seconds_since(start);
  return out;
}

}  // namespace fovea::engine
