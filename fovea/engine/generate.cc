#include "fovea/engine/generate.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "fovea/engine/stop_strings.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::engine {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// The text of an answer while its tokens come.
class AnswerText {
 public:
  AnswerText(const tokenizers::Tokenizer& tokenizer, const GenerateOptions& options, std::string& text)
      : decoder_(tokenizer), stop_(options.stop), options_(options), text_(text) {}

  Status push(int32_t token) { return add(stop_.push(decoder_.push(token))); }
  Status finish() {
    FOVEA_RETURN_IF_ERROR(add(stop_.push(decoder_.finish())));
    return add(stop_.finish());
  }
  bool stopped() const { return stop_.found(); }

 private:
  Status add(const std::string& sure) {
    text_ += sure;
    return sure.empty() || !options_.on_text ? Status() : options_.on_text(sure);
  }
  tokenizers::StreamDecoder decoder_;
  StopStrings stop_;
  const GenerateOptions& options_;
  std::string& text_;
};

SamplingOptions with_banned_ends(SamplingOptions sampling, const tokenizers::Tokenizer& tokenizer, int32_t n_ids) {
  for (int32_t id = 0; id < n_ids; ++id) {
    if (tokenizer.ends_text(id)) sampling.logit_bias[id] = -std::numeric_limits<float>::infinity();
  }
  return sampling;
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
  FOVEA_RETURN_IF_ERROR(check_stop_strings(options.stop));
  return check_sampling(options.sampling, vocab_size);
}

Result<Generation> generate(Session& session, SequenceId sequence, std::span<const int32_t> prompt,
                            const GenerateOptions& options) {
  FOVEA_RETURN_IF_ERROR(check_generation(options, session.shape().vocab_size));
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, session.model().tokenizer());
  Generation out;
  auto start = Clock::now();
  FOVEA_ASSIGN_OR_RETURN(std::vector<float> logits, session.prefill(sequence, prompt, options.prefill));
  out.n_prompt = static_cast<int64_t>(prompt.size());
  out.prompt_seconds = seconds_since(start);

  start = Clock::now();
  // Rows of the matrix past the vocabulary are padding: no token has their ids.
  const int32_t n_ids = std::min(tokenizer->vocab_size(), session.shape().vocab_size);
  Sampler sampler(options.ignore_eos ? with_banned_ends(options.sampling, *tokenizer, n_ids) : options.sampling);
  AnswerText text(*tokenizer, options, out.text);
  std::vector<int32_t> history(options.before.begin(), options.before.end());
  history.insert(history.end(), prompt.begin(), prompt.end());
  while (options.n_predict < 0 || out.tokens.size() < static_cast<size_t>(options.n_predict)) {
    if (options.cancel && options.cancel->load()) {
      out.finish = Finish::kCancelled;
      break;
    }
    const int32_t token = sampler.sample(std::span(logits).first(static_cast<size_t>(n_ids)), history);
    if (!options.ignore_eos && tokenizer->ends_text(token)) {
      out.finish = Finish::kStop;
      break;
    }
    out.tokens.push_back(token);
    history.push_back(token);
    if (options.on_token) options.on_token(token);
    FOVEA_RETURN_IF_ERROR(text.push(token));
    if (text.stopped()) {
      out.finish = Finish::kStop;
      break;
    }
    const bool last = options.n_predict >= 0 && out.tokens.size() == static_cast<size_t>(options.n_predict);
    if (last || session.length(sequence) >= session.n_ctx()) break;
    const Session::Step step{sequence, token};
    FOVEA_ASSIGN_OR_RETURN(const Tensor next, session.decode({&step, 1}));
    logits.assign(next.values().begin(), next.values().end());
  }
  FOVEA_RETURN_IF_ERROR(text.finish());
  out.predicted_seconds = seconds_since(start);
  return out;
}

}  // namespace fovea::engine
