#include "papers/support/decode_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "fovea/base/random.h"
#include "fovea/kernels/attention.h"

namespace fovea::papers {

Result<DecodeRun> decode_run(Run& run, const DecodeOptions& options) {
  using Clock = std::chrono::steady_clock;
  FOVEA_ASSIGN_OR_RETURN(const auto session, engine::Session::create(run.model(), {.numerics = run.numerics(),
                                                                                   .chunk = options.chunk,
                                                                                   .attention = options.attention,
                                                                                   .profile = options.profile}));
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
  DecodeRun out;
  out.n_keys = static_cast<int>(tokens.size());
  engine::PrefillOptions prefill{.progress = nullptr, .cancel = run.cancel(), .on_logits = nullptr};
  if (options.prompt_logits) {
    prefill.on_logits = [&out](int64_t, const tensor::Tensor& logits) -> Status {
      out.logits.insert(out.logits.end(), logits.values().begin(), logits.values().end());
      return {};
    };
  }
  const auto begin = Clock::now();
  FOVEA_RETURN_IF_ERROR(session->prefill(sequence, std::span(tokens).first(n_prompt), prefill));
  out.prefill_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  if (options.observer) session->observe(options.observer);
  for (const int32_t token : std::span(tokens).subspan(n_prompt)) {
    const engine::Session::Step step{sequence, token};
    const auto start = Clock::now();
    FOVEA_ASSIGN_OR_RETURN(const tensor::Tensor logits, session->decode({&step, 1}));
    if (options.on_step) options.on_step(token);
    out.seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    out.logits.insert(out.logits.end(), logits.values().begin(), logits.values().end());
  }
  out.bytes = engine::key_bytes(*session, sequence);
  for (int layer = 0; layer < session->shape().n_layers; ++layer) {
    for (int kv = 0; kv < session->shape().n_kv_heads; ++kv)
      out.kept.push_back(session->cache().n_keys(sequence, layer, kv));
  }
  return out;
}

Result<Outcome> same_bits(Run& run, const std::string& attention) {
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun dense, decode_run(run, {}));
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun other, decode_run(run, {.attention = attention}));
  const bool same = dense.logits == other.logits;
  return Outcome{same, same ? "the same bits" : "other bits"};
}

Result<Outcome> same_bits_throughout(Run& run, const std::string& attention, int n_keys) {
  DecodeOptions options{.n_prompt = n_keys - 8, .prompt_logits = true};
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun dense, decode_run(run, options));
  options.attention = attention;
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun whole, decode_run(run, options));
  options.chunk = 48;
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun chunks, decode_run(run, options));
  const auto word = [&](const DecodeRun& of) { return of.logits == dense.logits ? "the same" : "other"; };
  return Outcome{dense.logits == whole.logits && dense.logits == chunks.logits,
                 fmt::format("{} bits whole, {} in chunks, of {} rows", word(whole), word(chunks), dense.n_keys)};
}

Outcome holds(const DecodeRun& run, int64_t few, int64_t least_full, int64_t most_full) {
  if (few >= run.n_keys) return no_data(fmt::format("{} keys are too few to drop any", run.n_keys));
  const int64_t n_heads = std::ssize(run.kept), full = std::count(run.kept.begin(), run.kept.end(), run.n_keys),
                n_short = std::count(run.kept.begin(), run.kept.end(), few);
  const auto pages = [](int64_t n) { return (n + kernels::kPageKeys - 1) / kernels::kPageKeys; };
  const auto kept = static_cast<double>(run.bytes.kept), dense = static_cast<double>(run.bytes.dense);
  const double page = dense / static_cast<double>(n_heads * pages(run.n_keys));
  const double formula = page * static_cast<double>(full * pages(run.n_keys) + n_short * pages(few));
  const bool keys = full + n_short == n_heads && full >= least_full && full <= most_full;
  return {keys && std::abs(kept - formula) <= page * static_cast<double>(n_short),
          fmt::format("{} heads of {} keys and {} of {}; {:.3f} of dense, the formula {:.3f}", full, run.n_keys,
                      n_short, few, kept / dense, formula / dense)};
}

Result<Outcome> attention_time(Run& run, const std::string& attention, int n_keys,
                               std::shared_ptr<const attention::HeadProfile> profile) {
  constexpr int kLeast = 1024, kSteps = 24;
  if (std::min(n_keys, run.model()->shape().n_ctx) < kLeast)
    return no_data(fmt::format("{} keys are too few to take time", std::min(n_keys, run.model()->shape().n_ctx)));
  const DecodeOptions without_past{.n_prompt = 1, .n_decoded = kSteps};
  DecodeOptions options{.n_prompt = n_keys - kSteps, .n_decoded = kSteps, .profile = std::move(profile)};
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun none, decode_run(run, without_past));
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun dense, decode_run(run, options));
  options.attention = attention;
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun few, decode_run(run, options));
  const double base = median(none.seconds), whole = median(dense.seconds), part = median(few.seconds);
  const double share = (part - base) / (whole - base);
  const double bytes = static_cast<double>(few.bytes.kept) / static_cast<double>(dense.bytes.kept);
  return Outcome{whole > base && share < bytes + 0.15,
                 fmt::format("{:.2f} of the time, {:.2f} of the bytes (steps of {:.2f} and {:.2f} ms, {:.2f} without a "
                             "past; {} keys)",
                             share, bytes, 1e3 * part, 1e3 * whole, 1e3 * base, dense.n_keys)};
}

Result<double> step_ms(Run& run, const std::string& attention, int n_keys) {
  constexpr int kSteps = 24;
  FOVEA_ASSIGN_OR_RETURN(
      const DecodeRun of,
      decode_run(run, {.attention = attention, .n_prompt = std::max(1, n_keys - kSteps), .n_decoded = kSteps}));
  return 1e3 * median(of.seconds);
}

Result<Outcome> cost_by_dense(Run& run, const std::vector<int>& n_keys,
                              const std::function<std::string(int n_keys)>& attention, double most_prompt,
                              double most_step) {
  constexpr int kLeast = 256, kSteps = 16;
  Outcome out{true, {}, false};
  for (const int n : n_keys) {
    if (n < kLeast) continue;
    DecodeOptions options{.n_prompt = n - kSteps, .n_decoded = kSteps};
    FOVEA_ASSIGN_OR_RETURN(const DecodeRun dense, decode_run(run, options));
    options.attention = attention(dense.n_keys);
    FOVEA_ASSIGN_OR_RETURN(const DecodeRun other, decode_run(run, options));
    const double plain = median(dense.seconds), step = median(other.seconds) / plain;
    const double prompt = other.prefill_seconds / dense.prefill_seconds;
    out.has_data = true;
    out.passed = out.passed && prompt <= most_prompt && step <= most_step;
    out.measured +=
        fmt::format("{}{} keys: prompt {:.2f}x of {:.2f} s, step {:.2f}x of {:.2f} ms",
                    out.measured.empty() ? "" : "; ", dense.n_keys, prompt, dense.prefill_seconds, step, 1e3 * plain);
  }
  return out.has_data ? out : no_data(fmt::format("{} keys are too few to take time", n_keys.back()));
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace fovea::papers
