// Tang et al., "RazorAttention: Efficient KV Cache Compression Through Retrieval Heads", arXiv:2407.15891: heads that
// look back in repeated random tokens keep all keys (sec. 3.2), of the others one key stands for what is dropped (sec.
// 4).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "papers/razor-attention/measure.h"

namespace fovea::papers::razor_attention {
namespace {
using enum Kind;

Result<Outcome> equal_keys(Run&) {
  const Planted found = planted();
  return Outcome{found.on < 1e-5 && found.off > 1e-3,
                 fmt::format("{:.1g} from dense; {:.2g} without it", found.on, found.off)};
}
Result<Outcome> running_mean(Run&) {
  const double apart = planted().mean;
  return Outcome{apart < 1e-5, fmt::format("{:.1g}", apart)};
}

// Of a head that is not protected N0 + max(S0, N / C) keys, and the one that stands for the rest, which lies beside
// the cache.
Result<Outcome> memory(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Probe probe, probe_heads(run));
  DecodeOptions options{.n_decoded = 2, .profile = probe.profile};
  options.attention = with_buffer(run), options.n_prompt = run.lengths("memory-length", options.n_decoded)[0];
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun got, decode_run(run, options));
  const auto by = [&got](double share) { return std::lround(share * static_cast<double>(got.kept.size())); };
  return holds(got, 4 + std::max(run.number("buffer"), got.n_keys / run.number("ratio")), by(kInduction),
               by(kInduction) + by(kEcho));
}

struct Needle {
  Probe probe;
  double dense = 0, found = 0, bytes = 1;
};
// A check of needles that dense attention finds often enough.
std::function<Result<Outcome>(Run&)> of_needles(Result<Outcome> (*judge)(Run&, const Needle&)) {
  return [judge](Run& run) -> Result<Outcome> {
    Needle out;
    FOVEA_ASSIGN_OR_RETURN(out.probe, probe_heads(run));
    FOVEA_ASSIGN_OR_RETURN(const TaskScore dense, score(run, out.probe, "niah", "dense"));
    if (dense.score < kEnoughOfDense)
      return no_data(fmt::format("dense attention finds {:.0f} %, under {:.0f}", dense.score, kEnoughOfDense));
    FOVEA_ASSIGN_OR_RETURN(const TaskScore razor, score(run, out.probe, "niah", with_buffer(run)));
    out.dense = dense.score, out.found = razor.score, out.bytes = razor.bytes;
    return judge(run, out);
  };
}
Result<Outcome> needles(Run&, const Needle& needle) {
  return Outcome{needle.found >= 0.9 * needle.dense,
                 fmt::format("{:.0f} %, dense {:.0f}; {:.2f} of the bytes", needle.found, needle.dense, needle.bytes)};
}
Result<Outcome> random_heads(Run& run, const Needle& needle) {
  if (run.number("samples") < kEnoughPrompts)
    return no_data(fmt::format("{} prompts are too few", run.number("samples")));
  FOVEA_ASSIGN_OR_RETURN(const Drawn d, drawn(run, needle.probe));
  return Outcome{d.mean <= needle.found - 50,
                 fmt::format("mean {:.0f} %, best {:.0f}; the profile's {:.0f}", d.mean, d.best, needle.found)};
}
Result<Outcome> perplexity(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Probe probe, probe_heads(run));
  FOVEA_ASSIGN_OR_RETURN(const TaskScore dense, score(run, probe, "nll", "dense"));
  FOVEA_ASSIGN_OR_RETURN(const TaskScore razor, score(run, probe, "nll", with_buffer(run)));
  FOVEA_ASSIGN_OR_RETURN(const TaskScore plain, score(run, probe, "nll", with_buffer(run, ":compensation=off")));
  const auto more = [&dense](const TaskScore& of) { return 100 * (std::exp(of.nll - dense.nll) - 1); };
  return Outcome{more(razor) < 5, fmt::format("{:+.2f} % of {:.2f}; without compensation {:+.2f} %", more(razor),
                                              std::exp(dense.nll), more(plain))};
}

Result<Outcome> compensation(Run& run, std::vector<double> HeadErrors::*other) {
  FOVEA_ASSIGN_OR_RETURN(const HeadErrors errors, head_errors(run));
  const std::vector<double>&mine = errors.on, &theirs = errors.*other;
  int64_t larger = 0;
  for (size_t head = 0; head < mine.size(); ++head) larger += theirs[head] > mine[head];
  const double a = mean_of(mine), b = mean_of(theirs);
  return Outcome{b > 1.05 * a,
                 fmt::format("{:.4f}, with compensation {:.4f}; larger in {} of {} heads", b, a, larger, mine.size())};
}

FOVEA_REPRODUCTION(Paper{
    .slug = "razor-attention",
    .title = "RazorAttention: Efficient KV Cache Compression Through Retrieval Heads",
    .source = "arXiv:2407.15891",
    .n_items = 5,
    .model = "qwen2.5-coder-0.5b",
    .settings = {{"ratio", "5", "5", "C", 2, 1 << 20},
                 {"buffer", "256", "48", "S0, tokens", 1, 1 << 20},
                 {"length", "1024", "400", "tokens of the prompts with a needle", 128, 1 << 20},
                 {"samples", "10", "3", "prompts with a needle", 1, 1000},
                 {"draws", "2", "1", "draws of random heads", 1, 100},
                 {"text", "1024", "256", "tokens of the texts of loss and errors", 64, 1 << 20},
                 {"texts", "3", "1", "texts of the loss", 1, 1000},
                 {"memory-length", "4096", "448", "keys whose bytes are counted", 64, 1 << 20},
                 {"decode-length", "8192", "448", "keys of the steps that are timed", 64, 1 << 20}},
    .checks = {{1, kExact, "logits with a ratio of 1", "the same bits",
                [](Run& run) { return same_bits_throughout(run, "razor-attention:ratio=1:buffer=8:protect=heads"); }},
               {1, kExact, "logits of a text within the buffer", "the same bits",
                [](Run& run) { return same_bits_throughout(run, "razor-attention:buffer=160:protect=heads", 160); }},
               {1, kExact, "equal dropped keys", "dense to 1e-5, and not without the key for them", equal_keys},
               {1, kExact, "dropped while decoding or at once", "1e-5 apart at most", running_mean},
               {2, kShape, "induction of KV heads, best 14 % by median", "> 10 times as much", heavy_tail},
               {2, kShape, "best 15 % that are retrieval heads too", "twice as many as by chance", overlap},
               {3, kExact, "keys and bytes", "the formula's keys, its bytes but for a page a head", memory},
               {3, kShape, "needles", ">= 0.9 of dense", of_needles(needles)},
               {3, kShape, "perplexity of texts", "5 % over dense at most", perplexity},
               {4, kControl, "needles, as many random heads protected", "50 points below the profile's or more",
                of_needles(random_heads)},
               {4, kControl, "error of heads, compensation without log N", "5 % larger or more",
                [](Run& run) { return compensation(run, &HeadErrors::unweighted); }},
               {4, kControl, "error of heads, no compensation", "5 % larger or more",
                [](Run& run) { return compensation(run, &HeadErrors::off); }},
               {5, kShape, "time of attention in a step, by dense", "the share of bytes, 0.15 more at most",
                [](Run& run) -> Result<Outcome> {
                  FOVEA_ASSIGN_OR_RETURN(const Probe probe, probe_heads(run));
                  return attention_time(run, with_buffer(run), run.number("decode-length"), probe.profile);
                }}}});

}  // namespace
}  // namespace fovea::papers::razor_attention
