// Xiao et al., "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads",
// arXiv:2410.10819: half of the KV heads keep a window alone (sec. 2.4); which ones, trained gates say (sec. 2.3).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "papers/duo-attention/measure.h"

namespace fovea::papers::duo_attention {
namespace {
using enum Kind;

// A check of passkeys that dense attention finds often enough, under gates that were trained.
struct Found {
  Gates gates;
  double dense = 0, learned = 0;
};
using Measure = std::function<Result<Outcome>(Run&)>;
Measure of_gates(const std::function<Result<Outcome>(Run&, const Found&)>& judge) {
  return [judge](Run& run) -> Result<Outcome> {
    Found found;
    FOVEA_ASSIGN_OR_RETURN(found.gates, gates_of(run));
    if (found.gates.values.empty()) return no_data(found.gates.why);
    FOVEA_ASSIGN_OR_RETURN(found.dense, passkeys(run, found.gates, "dense"));
    if (found.dense < kEnoughOfDense)
      return no_data(fmt::format("dense attention finds {:.0f} %, under {:.0f}", found.dense, kEnoughOfDense));
    FOVEA_ASSIGN_OR_RETURN(found.learned, passkeys(run, found.gates, with_window(run, ":sparsity=0.5")));
    return judge(run, found);
  };
}

Result<Outcome> loss_of_open_gates(Run&) {
  FOVEA_ASSIGN_OR_RETURN(const Toy open, toy(1));
  FOVEA_ASSIGN_OR_RETURN(const Toy half, toy(0.5));
  return Outcome{open.loss == 0 && half.loss > 0, fmt::format("{}; with gates of 0.5 {:.2g}", open.loss, half.loss)};
}
Result<Outcome> gradient(Run&) {
  FOVEA_ASSIGN_OR_RETURN(const Toy half, toy(0.5));
  return Outcome{half.largest > 0 && half.worst < 0.01 * half.largest,
                 fmt::format("{:.2g} off, the largest of {} is {:.2g}", half.worst, half.n_gates, half.largest)};
}

// 2 D bytes (n_full N + n_streaming min(N, S + R)); the newest of the S + R is the next row's own.
Result<Outcome> memory(Run& run) {
  const std::vector<int> window = run.numbers("memory-window");
  const int steps = 2, sink = window[0], recent = window.back();
  DecodeOptions options{.n_prompt = run.lengths("memory-length", steps)[0], .n_decoded = steps};
  options.attention = fmt::format("duo-attention:sparsity=0.5:gates=random:sink={}:recent={}", sink, recent);
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun got, decode_run(run, options));
  const int64_t n_heads = std::ssize(got.kept), n_full = n_heads - std::llround(0.5 * static_cast<double>(n_heads));
  return holds(got, sink + recent - 1, n_full, n_full);
}

Result<Outcome> two_kinds(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Gates gates, gates_of(run));
  if (gates.values.empty()) return no_data(gates.why);
  std::vector<double> sorted = gates.values;
  std::sort(sorted.rbegin(), sorted.rend());
  Series series{"gate", {}};
  for (const double gate : sorted) series.points.emplace_back(series.points.size(), gate);
  run.plot({"Gates of the KV heads, in order", "KV head", "gate", {series}});
  const auto share = [&](double low, double high) {
    const auto n = std::count_if(sorted.begin(), sorted.end(), [=](double g) { return g >= low && g <= high; });
    return 100.0 * static_cast<double>(n) / static_cast<double>(sorted.size());
  };
  return Outcome{share(0, 0.1) > 10 && share(0.9, 1) > 10 && share(0.1, 0.9) < 50,
                 fmt::format("{:.0f} % and {:.0f} %, {:.0f} % between, of {}", share(0, 0.1), share(0.9, 1),
                             100 - share(0, 0.1) - share(0.9, 1), sorted.size())};
}

Result<Outcome> learned(Run&, const Found& found) {
  return Outcome{found.learned >= 0.9 * found.dense, fmt::format("{:.0f} %, dense {:.0f}", found.learned, found.dense)};
}
Result<Outcome> above_drawn(Run& run, const Found& found) {
  FOVEA_ASSIGN_OR_RETURN(const Drawn d, drawn(run, found.gates));
  return Outcome{d.mean <= found.learned - 30,
                 fmt::format("mean {:.0f} %, best {:.0f}; learned {:.0f}", d.mean, d.best, found.learned)};
}
// Another choice of heads finds that many points less than the learned one, or more.
Measure below(const std::string& knobs, double points, int least_prompts = 0) {
  return of_gates([=](Run& run, const Found& found) -> Result<Outcome> {
    if (run.number("samples") < least_prompts)
      return no_data(fmt::format("{} prompts are too few", run.number("samples")));
    FOVEA_ASSIGN_OR_RETURN(const double other, passkeys(run, found.gates, with_window(run, knobs)));
    return Outcome{other <= found.learned - points, fmt::format("{:.0f} %, learned {:.0f}", other, found.learned)};
  });
}
Result<Outcome> short_text(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Gates gates, gates_of(run));
  if (gates.values.empty()) return no_data(gates.why);
  FOVEA_ASSIGN_OR_RETURN(const double dense, loss(run, gates, "dense"));
  FOVEA_ASSIGN_OR_RETURN(const double inverted, loss(run, gates, with_window(run, ":sparsity=0.5:gates=inverted")));
  FOVEA_ASSIGN_OR_RETURN(const double found, loss(run, gates, with_window(run, ":sparsity=0.5")));
  const auto more = [dense](double nll) { return 100 * (std::exp(nll - dense) - 1); };
  return Outcome{more(inverted) < 10, fmt::format("{:+.1f} % ({:.2f} and {:.2f}); learned {:+.1f} %", more(inverted),
                                                  std::exp(inverted), std::exp(dense), more(found))};
}

FOVEA_REPRODUCTION(Paper{
    .slug = "duo-attention",
    .title = "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads",
    .source = "arXiv:2410.10819",
    .n_items = 5,
    .model = "smollm2-135m",
    .settings = {{"task", "passkey", "passkey", "what is asked", 0, -1, {"passkey", "niah"}},
                 {"length", "704", "400", "tokens of its prompts", 128, 1 << 20},
                 {"samples", "20", "4", "prompts, and texts of the loss", 1, 1000},
                 {"sink", "16", "16", "first keys of heads that stream, for the scores", 0, 1 << 20},
                 {"recent", "64", "64", "their last keys", 1, 1 << 20},
                 {"draws", "3", "1", "draws of random gates", 1, 100},
                 {"short", "256", "128", "tokens of the texts whose loss is taken", 32, 1 << 20},
                 {"memory-length", "4096", "448", "keys whose bytes are counted", 64, 1 << 20},
                 {"memory-window", "64,256", "16,64", "sink and recent meanwhile", 1, 1 << 20},
                 {"decode-length", "8192", "448", "keys of the steps that are timed", 64, 1 << 20}},
    .checks = {
        {1, kExact, "logits with every gate open", "the same bits",
         [](Run& run) { return same_bits_throughout(run, "duo-attention:sparsity=0:sink=16:recent=64"); }},
        {1, kExact, "logits of a text within sink and recent, drawn gates", "the same bits",
         [](Run& run) { return same_bits_throughout(run, "duo-attention:gates=random:sparsity=0.5", 160); }},
        {1, kExact, "distillation loss with gates of 1, toy of 2 layers", "0", loss_of_open_gates},
        {1, kExact, "its gradient by the gates, from finite differences", "1 % of the largest at most", gradient},
        {2, kExact, "keys and bytes", "the formula's keys, its bytes but for a page a streaming head", memory},
        {3, kShape, "gates under 0.1 and over 0.9", "each > 10 %, < 50 % between", two_kinds},
        {3, kShape, "passkeys, learned gates", ">= 0.9 of dense", of_gates(learned)},
        {3, kShape, "passkeys, drawn gates", "30 points below learned or more", of_gates(above_drawn)},
        {3, kShape, "passkeys, every head streams", "30 points below learned or more", below(":sparsity=1", 30)},
        {4, kControl, "passkeys, gates inverted", "50 points below learned or more",
         below(":sparsity=0.5:gates=inverted", 50, kEnoughPrompts)},
        {4, kControl, "passkeys, gates of other layers", "10 points below learned or more",
         below(":sparsity=0.5:gates=shuffled", 10, kEnoughPrompts)},
        {4, kShape, "perplexity of short texts, gates inverted", "10 % over dense at most", short_text},
        {5, kShape, "time of attention in a step, by dense", "the share of bytes, 0.15 more at most", [](Run& run) {
           return attention_time(run, "duo-attention:sparsity=0.5:gates=random", run.number("decode-length"));
         }}}});

}  // namespace
}  // namespace fovea::papers::duo_attention
