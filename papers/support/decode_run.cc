#include "papers/support/decode_run.h"

#include <algorithm>
#include <chrono>

#include "fovea/base/random.h"

namespace fovea::papers {

Result<DecodeRun> decode_run(Run& run, const DecodeOptions& options) {
  using Clock = std::chrono::steady_clock;
  FOVEA_ASSIGN_OR_RETURN(const auto session, engine::Session::create(run.model(), {.numerics = run.numerics(),
                                                                                   .attention = options.attention}));
  Rng random(run.seed());
  if (session->n_ctx() <= options.n_decoded) {
    return make_error(ErrorCode::kUsage, "this model has a context of {} tokens; {} or more are needed",
                      session->n_ctx(), options.n_decoded + 1);
  }
  std::vector<int32_t> tokens(static_cast<size_t>(std::min(options.n_prompt + options.n_decoded, session->n_ctx())));
  for (int32_t& token : tokens)
    token = static_cast<int32_t>(random.below(static_cast<uint64_t>(session->shape().vocab_size)));
  const auto n_prompt = tokens.size() - static_cast<size_t>(options.n_decoded);
  const engine::SequenceId sequence = session->begin();
  FOVEA_RETURN_IF_ERROR(session->prefill(sequence, std::span(tokens).first(n_prompt),
                                         {.progress = nullptr, .cancel = run.cancel(), .on_logits = nullptr}));
  if (options.observer) session->observe(options.observer);
  DecodeRun out{.n_keys = static_cast<int>(tokens.size()), .logits = {}, .seconds = {}};
  for (const int32_t token : std::span(tokens).subspan(n_prompt)) {
    const engine::Session::Step step{sequence, token};
    const auto start = Clock::now();
    FOVEA_ASSIGN_OR_RETURN(const tensor::Tensor logits, session->decode({&step, 1}));
    if (options.on_step) options.on_step(token);
    out.seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    out.logits.insert(out.logits.end(), logits.values().begin(), logits.values().end());
  }
  return out;
}

Result<Outcome> same_bits(Run& run, const std::string& attention) {
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun dense, decode_run(run, {}));
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun other, decode_run(run, {.attention = attention}));
  const bool same = dense.logits == other.logits;
  return Outcome{same, same ? "the same bits" : "other bits"};
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace fovea::papers
