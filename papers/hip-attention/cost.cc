#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "fovea/base/random.h"
#include "papers/hip-attention/measure.h"
#include "papers/support/text_loss.h"

namespace fovea::papers::hip_attention {
namespace {

// Of a prompt of random tokens.
Result<double> prompt_seconds(Run& run, const std::string& attention, int length) {
  using Clock = std::chrono::steady_clock;
  FOVEA_ASSIGN_OR_RETURN(const auto session,
                         engine::Session::create(run.model(), {.numerics = run.numerics(), .attention = attention}));
  Rng random(run.seed());
  std::vector<int32_t> tokens(static_cast<size_t>(length));
  for (int32_t& token : tokens)
    token = static_cast<int32_t>(random.below(static_cast<uint64_t>(session->shape().vocab_size)));
  engine::PrefillOptions prefill;
  prefill.cancel = run.cancel();
  const auto start = Clock::now();
  FOVEA_RETURN_IF_ERROR(session->prefill(session->begin(), tokens, prefill));
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Losses and times of decoded tokens that search anew every 1, 8 and never again.
Result<std::vector<TextLoss>> refreshed(Run& run) {
  std::vector<TextLoss> out;
  for (const char* steps : {"1", "8", "16777216"}) {
    FOVEA_ASSIGN_OR_RETURN(const TextLoss of,
                           text_loss_cell(run, run.lengths("length", 0)[0],
                                          {.attention = with_keys(run, fmt::format(":refresh={}", steps)),
                                           .n_scored = run.number("scored")}));
    out.push_back(of);
  }
  return out;
}
}  // namespace

Result<Outcome> perplexity(Run& run) {
  const int length = run.lengths("length", 0)[0];
  const auto loss = [&](const std::string& attention) -> Result<double> {
    FOVEA_ASSIGN_OR_RETURN(const TextLoss of,
                           text_loss_cell(run, length, {.attention = attention, .n_scored = run.number("scored")}));
    return of.nll;
  };
  FOVEA_ASSIGN_OR_RETURN(const double dense, loss("dense"));
  FOVEA_ASSIGN_OR_RETURN(const double searched, loss(with_keys(run)));
  FOVEA_ASSIGN_OR_RETURN(const double window_only, loss(window(run)));
  const auto more = [dense](double nll) { return 100 * (std::exp(nll - dense) - 1); };
  return Outcome{more(searched) < 5, fmt::format("{:+.2f} % of {:.2f}, window {:+.2f} %", more(searched),
                                                 std::exp(dense), more(window_only))};
}

Result<Outcome> prompt_time(Run& run) {
  constexpr int kLeast = 1024;
  std::vector<int> lengths = run.lengths("prompt-lengths", 0);
  std::erase_if(lengths, [](int length) { return length < kLeast; });
  if (lengths.empty()) return no_data("the model reads too few keys to take time");
  Series mine{"hip-attention", {}}, dense{"dense", {}};
  std::string text;
  for (const int length : lengths) {
    FOVEA_ASSIGN_OR_RETURN(const double a, prompt_seconds(run, with_keys(run), length));
    FOVEA_ASSIGN_OR_RETURN(const double b, prompt_seconds(run, "dense", length));
    mine.points.emplace_back(length, a), dense.points.emplace_back(length, b);
    text += fmt::format("{}{:.1f} s, dense {:.1f} ({} tokens)", text.empty() ? "" : "; ", a, b, length);
  }
  run.plot({"Time of a prompt", "tokens", "seconds", {mine, dense}});
  return Outcome{mine.points.back().second < dense.points.back().second, text};
}

Result<Outcome> refresh_time(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const auto of, refreshed(run));
  return Outcome{of[1].ms < of[0].ms,
                 fmt::format("{:.2f} ms, every token {:.2f}, once {:.2f}", of[1].ms, of[0].ms, of[2].ms)};
}
Result<Outcome> refresh_loss(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const auto of, refreshed(run));
  const auto more = [&](size_t i) { return 100 * (std::exp(of[i].nll - of[0].nll) - 1); };
  return Outcome{more(1) < 2 && more(1) < more(2),
                 fmt::format("{:+.2f} % of {:.2f}, once {:+.2f} %", more(1), std::exp(of[0].nll), more(2))};
}

}  // namespace fovea::papers::hip_attention
