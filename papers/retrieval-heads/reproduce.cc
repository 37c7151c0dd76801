// Wu et al., "Retrieval Head Mechanistically Explains Long-Context Factuality", arXiv:2404.15574: heads are scored by
// how often they copy the needle (sec. 2), and masking the best ones breaks the needle task (sec. 4.1).
#include <fmt/format.h>

#include <algorithm>

#include "fovea/probe/measures/compare_profiles.h"
#include "papers/retrieval-heads/measure.h"
#include "papers/support/shuffled_model.h"

namespace fovea::papers::retrieval_heads {
namespace {
using enum Kind;
constexpr int kEnough = 60;  // accepted samples

// A check of what the detection gave.
std::function<Result<Outcome>(Run&)> of_heads(Result<Outcome> (*judge)(Run&, const Detected&)) {
  return [judge](Run& run) -> Result<Outcome> {
    FOVEA_ASSIGN_OR_RETURN(const Detected found, detected(run));
    if (found.accepted < 2) return no_data(fmt::format("{} of {} accepted", found.accepted, found.samples));
    return judge(run, found);
  };
}

Result<Outcome> planted(Run&) {
  const Scores scores = planted_scores({8, 14});
  const auto above = std::count_if(scores.begin(), scores.end(), [](double score) { return score > 0; });
  return Outcome{scores[kEveryStep] == 1 && scores[kEverySecondStep] == 0.5 && above == 2,
                 fmt::format("{} and {}, {} above 0", scores[kEveryStep], scores[kEverySecondStep], above)};
}
Result<Outcome> planted_elsewhere(Run&) {
  const Scores scores = planted_scores({1, 7});
  const double best = *std::max_element(scores.begin(), scores.end());
  return Outcome{best == 0, fmt::format("best {}", best)};
}

Result<Outcome> accepted(Run&, const Detected& found) {
  if (found.samples < kEnough) return no_data(fmt::format("only {} samples were drawn", found.samples));
  return Outcome{found.accepted >= kEnough, fmt::format("{} of {}", found.accepted, found.samples)};
}
Result<Outcome> at_zero(Run&, const Detected& found) {
  const double share = found.share([](double score) { return score == 0; });
  return Outcome{share > 50, fmt::format("{:.1f} %", share)};
}
Result<Outcome> over_a_tenth(Run& run, const Detected& found) {
  Scores sorted = found.scores;
  std::sort(sorted.rbegin(), sorted.rend());
  Series series{"mean score", {}};
  for (const double score : sorted) series.points.emplace_back(series.points.size(), score);
  run.plot({"Scores of the heads, in order", "head", "retrieval score", {series}});
  const double share = found.share([](double score) { return score >= 0.1; });
  return Outcome{share < 10, fmt::format("{:.1f} % of {}", share, sorted.size())};
}
Result<Outcome> best_ten(const attention::HeadProfile& a, const attention::HeadProfile& b, int least) {
  const auto both = probe::compare_profiles(a, b, "retrieval");
  if (!both) return no_data(both.error().message);
  return Outcome{both->common >= least,
                 fmt::format("{} of {}, Pearson {:.3f}", both->common, both->n_top, both->pearson)};
}
Result<Outcome> two_halves(Run& run, const Detected& found) {
  return best_ten(profile_of(run, found.even), profile_of(run, found.odd), 6);
}
Result<Outcome> other_checkpoint(Run& run, const Detected& found) {
  if (run.word("against").empty()) return no_data("no other checkpoint was named (--set against=PROFILE.json)");
  FOVEA_ASSIGN_OR_RETURN(const auto other, probe::read_any_profile(run.word("against")));
  return best_ten(profile_of(run, found.scores), other, 6);
}

Result<Outcome> unmasked(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const double plain, recall(run, {}, 0));
  return Outcome{plain >= 80, fmt::format("{:.1f}", plain)};
}
Result<Outcome> best_masked(Run& run, const Detected& found) {
  FOVEA_ASSIGN_OR_RETURN(const Masked m, masked(run, found));
  return Outcome{m.plain - m.best >= 30, fmt::format("{:.1f}, a drop of {:.1f}", m.best, m.plain - m.best)};
}
Result<Outcome> random_masked(Run& run, const Detected& found) {
  FOVEA_ASSIGN_OR_RETURN(const Masked m, masked(run, found));
  return Outcome{(m.plain - m.random) * 3 < m.plain - m.best,
                 fmt::format("mean {:.1f}, worst {:.1f}", m.random, m.worst)};
}

Result<Outcome> label_moved(Run&, const Detected& found) {
  if (found.accepted < kEnough) return no_data(fmt::format("{} samples are too few", found.accepted));
  const double best = *std::max_element(found.moved.begin(), found.moved.end());
  return Outcome{best < 0.02, fmt::format("{:.4f}", best)};
}
Result<Outcome> shuffled_weights(Run& run) {
  const int length = run.lengths("lengths", tasks::NeedleOptions().decode_max)[0];
  const Json setting = {{"length", length}, {"depths", run.number("depths")}};
  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell("detection, weights shuffled", setting, [&]() -> Result<Json> {
    FOVEA_ASSIGN_OR_RETURN(const auto model, shuffled_model(*run.model(), run.seed(), run.cancel()));
    return detect(run, model, length);
  }));
  return Outcome{cell.at("accepted") == 0 && cell.at("scored") == false,
                 fmt::format("{} of {} accepted, {}", cell.at("accepted").dump(), cell.at("samples").dump(),
                             cell.at("scored") == true ? "scores" : "no data")};
}

Result<Outcome> looking(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun plain, decode_run(run, {}));
  FOVEA_ASSIGN_OR_RETURN(const Watched seen, watched(run, {}));
  const size_t kept = seen.trace.keys.size() / seen.trace.steps();
  const bool same = plain.logits == seen.run.logits;
  return Outcome{same && kept == static_cast<size_t>(seen.trace.n_all_heads),
                 fmt::format("{} bits, {} positions a step", same ? "the same" : "other", kept)};
}
Result<Outcome> cost(Run& run) {
  const DecodeOptions options{.n_prompt = 1024, .n_decoded = 24};
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun plain, decode_run(run, options));
  FOVEA_ASSIGN_OR_RETURN(const Watched seen, watched(run, options));
  const double a = 1e3 * median(plain.seconds), b = 1e3 * median(seen.run.seconds);
  return Outcome{b < 2 * a, fmt::format("{:.2f}x ({:.2f} and {:.2f} ms; {} keys)", b / a, b, a, seen.run.n_keys)};
}

FOVEA_REPRODUCTION(Paper{
    .slug = "retrieval-heads",
    .title = "Retrieval Head Mechanistically Explains Long-Context Factuality",
    .source = "arXiv:2404.15574",
    .n_items = 5,
    .model = "qwen2.5-coder-0.5b",
    .settings = {{"lengths", "512,1024,2048", "400", "tokens of the prompts of the detection", 128, 1 << 20},
                 {"depths", "6", "1", "places of each of the 4 needles", 1, 100},
                 {"masked", "12", "12", "how many heads are masked; the first number is judged", 1, 1 << 20},
                 {"mode", "uniform", "uniform", "mask_mode of the method", 0, -1, {"uniform", "zero", "mean"}},
                 {"mask-length", "512", "400", "tokens of the prompts that are answered with masks", 128, 1 << 20},
                 {"mask-depths", "3", "1", "places of each needle in them", 1, 100},
                 {"draws", "5", "1", "draws of random heads", 1, 100},
                 {"against", "", "", "the head profile of another checkpoint"}},
    .checks = {
        {1, kExact, "planted heads, right always and every second time", "1 and 0.5, all others 0", planted},
        {1, kExact, "logits with an empty mask", "the same bits",
         [](Run& run) { return same_bits(run, "retrieval-heads"); }},
        {2, kShape, "accepted samples", ">= 60", of_heads(accepted)},
        {2, kShape, "heads at exactly 0", "most (paper: 49-73 %)", of_heads(at_zero)},
        {2, kShape, "heads with a score of 0.1 or more", "< 10 % (paper: 2.1-6.2 %)", of_heads(over_a_tenth)},
        {2, kShape, "best ten of two halves in common", ">= 6", of_heads(two_halves)},
        {2, kShape, "best ten in common with another checkpoint", "most", of_heads(other_checkpoint)},
        {3, kShape, "needle recall, nothing masked", ">= 80", unmasked},
        {3, kShape, "needle recall, best heads masked", "a drop of 30 points or more", of_heads(best_masked)},
        {3, kShape, "needle recall, random heads masked", "a third of that drop at most", of_heads(random_masked)},
        {4, kExact, "planted heads, label elsewhere", "all 0", planted_elsewhere},
        {4, kControl, "best mean score, needle label moved", "< 0.02", of_heads(label_moved)},
        {4, kControl, "weights shuffled", "no sample accepted, no data", shuffled_weights},
        {5, kExact, "decoding while every head is watched", "the same bits, 1 position a head", looking},
        {5, kShape, "decode time while watched, by plain decode", "< 2x", cost}}});

}  // namespace
}  // namespace fovea::papers::retrieval_heads
