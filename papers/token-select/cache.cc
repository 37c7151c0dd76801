#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "papers/support/text_loss.h"
#include "papers/token-select/measure.h"

namespace fovea::papers::token_select {
namespace {

// Of one decoded token in each layer the keys between first and last: whether they are those of the token before.
class Selections final : public attention::RowObserver {
 public:
  Selections(int n_layers, int n_init, int n_local)
      : n_init_(n_init), n_local_(n_local), last_(static_cast<size_t>(n_layers)) {}
  int64_t n_rows = 0, n_reused = 0;
  bool wants(int, int head, bool decoding) const override { return decoding && head == 0; }
  void see(const attention::RowView& row, std::span<const float> pattern) override {
    std::vector<int32_t> keys;
    for (size_t i = 0; i < pattern.size(); ++i) {
      const int32_t key = row.key_positions[i];
      if (pattern[i] > 0 && key >= n_init_ && key <= row.q_pos - n_local_) keys.push_back(key);
    }
    std::vector<int32_t>& last = last_[static_cast<size_t>(row.call.layer)];
    if (!last.empty()) ++n_rows, n_reused += last == keys;
    last = std::move(keys);
  }

 private:
  int n_init_, n_local_;
  std::vector<std::vector<int32_t>> last_;
};

struct Reuse {
  double nll = 0, hits = 0;  // share of decoded tokens that took the last selection, over all layers
};
Result<Reuse> reuse(Run& run, const std::string& theta) {
  const int length = run.lengths("reuse-length", 0)[0], n_scored = run.number("scored");
  const std::string attention = best_votes(run, ":theta=" + theta);
  const Json setting = {{"text", length}, {"decoded", n_scored}};
  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell(attention, setting, [&]() -> Result<Json> {
    FOVEA_ASSIGN_OR_RETURN(const auto tokens, text_tokens(run, length));
    Selections seen(run.model()->shape().n_layers, run.number("init"), run.number("local"));
    FOVEA_ASSIGN_OR_RETURN(const TextLoss loss,
                           text_loss(run, tokens, {.attention = attention, .n_scored = n_scored, .observer = &seen}));
    return Json{{"nll", loss.nll},
                {"hits", static_cast<double>(seen.n_reused) / static_cast<double>(std::max<int64_t>(1, seen.n_rows))}};
  }));
  return Reuse{cell.at("nll").get<double>(), cell.at("hits").get<double>()};
}

}  // namespace

Result<Outcome> step_time(Run& run) {
  constexpr int kLeast = 1024;
  const int n_keys = run.lengths("decode-length", 0)[0];
  if (n_keys < kLeast) return no_data(fmt::format("{} keys are too few to take time", n_keys));
  FOVEA_ASSIGN_OR_RETURN(const double dense, step_ms(run, "dense", n_keys));
  FOVEA_ASSIGN_OR_RETURN(const double mine, step_ms(run, best_votes(run), n_keys));
  FOVEA_ASSIGN_OR_RETURN(const double none, step_ms(run, "dense", 0));
  return Outcome{mine < dense,
                 fmt::format("{:.2f} ms, dense {:.2f}, without a past {:.2f}; {} keys", mine, dense, none, n_keys)};
}

Result<Outcome> never_reused(Run& run) {
  DecodeOptions options{.attention = "token-select:n_init=4:n_local=16:top_k=16:chunk=1:theta=2",
                        .n_prompt = 100,
                        .n_decoded = 60,
                        .prompt_logits = true};
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun steps, decode_run(run, options));
  options.n_prompt = 159, options.n_decoded = 1;
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun prompt, decode_run(run, options));
  options.n_prompt = 100, options.n_decoded = 60;
  options.attention = "token-select:n_init=4:n_local=16:top_k=16:chunk=1:theta=-1";
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun reused, decode_run(run, options));
  const auto word = [&](const DecodeRun& of) { return of.logits == prompt.logits ? "the same bits" : "other bits"; };
  return Outcome{steps.logits == prompt.logits && reused.logits != prompt.logits,
                 fmt::format("{}; {} with theta=-1", word(steps), word(reused))};
}
Result<Outcome> hits(Run& run) {
  constexpr const char* kThetas[] = {"-1", "0.5", "0.8", "0.9", "0.95", "2"};
  Series rates{"reused", {}}, losses{"nats a token", {}};
  std::string text;
  bool falls = true;
  double before = 1;
  for (const char* theta : kThetas) {
    FOVEA_ASSIGN_OR_RETURN(const Reuse found, reuse(run, theta));
    rates.points.emplace_back(std::atof(theta), found.hits), losses.points.emplace_back(std::atof(theta), found.nll);
    text += fmt::format("{}{}: {:.2f}", text.empty() ? "" : ", ", theta, found.hits);
    falls = falls && found.hits <= before + 0.02;
    before = found.hits;
  }
  run.plot({"How many selections are reused", "theta", "share of decoded tokens", {rates}});
  run.plot({"What it costs", "theta", "nats a token", {losses}});
  return Outcome{falls && rates.points.front().second == 1 && before == 0, text};
}
Result<Outcome> staleness(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Reuse fresh, reuse(run, "2"));
  FOVEA_ASSIGN_OR_RETURN(const Reuse stale, reuse(run, "-1"));
  FOVEA_ASSIGN_OR_RETURN(const Reuse usual, reuse(run, "0.9"));
  const auto more = [&](const Reuse& of) { return 100 * (std::exp(of.nll - fresh.nll) - 1); };
  return Outcome{more(stale) > 1,
                 fmt::format("{:+.2f} % of {:.2f}; at 0.9 {:+.2f} %", more(stale), std::exp(fresh.nll), more(usual))};
}

}  // namespace fovea::papers::token_select
