// Yu et al., "Unveiling and Harnessing Hidden Attention Sinks: Enhancing Large Language Models without Training through
// Attention Calibration", arXiv:2406.15765: sinks behind the first token (sec. 3) lose weight in heads that were chosen
// by what they alone gain on held-out questions (sec. 4).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "papers/act-attention-calibration/measure.h"

namespace fovea::papers::act {
namespace {
using enum Kind;

Result<Outcome> idle(Run& run, const std::string& knobs) {
  return same_bits_throughout(run, "act-attention-calibration:skip=0:" + knobs);
}
Result<Outcome> by_hand(Run&) {
  const std::vector<double> row = row_by_hand();
  const double more = 1 + 0.18 / 0.7;
  const double off = std::max({std::abs(row[0] - 0.5 * more), std::abs(row[1] - 0.12), std::abs(row[2] - 0.2 * more)});
  return Outcome{off < 1e-6, fmt::format("{:.4f}, {:.4f}, {:.4f}", row[0], row[1], row[2])};
}
Outcome rows(const Rows& found) {
  return {found.worst < 1e-5 && found.sums < 1e-5 && found.least >= 0 && found.with_sinks > 3,
          fmt::format("{:.1g} apart, sums {:.1g} from 1, least {:.2g}; {} rows with sinks", found.worst, found.sums,
                      found.least, found.with_sinks)};
}

Result<Outcome> some_heads(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Sinks found, hidden_sinks(run));
  const attention::ModelShape& shape = run.model()->shape();
  Series series{"hidden sinks", {}};
  std::string by_layer;
  size_t heads = 0;
  for (int layer = 0; layer < shape.n_layers; ++layer) {
    double of_layer = 0;
    for (int head = 0; head < shape.n_heads; ++head) {
      const double n = found.of_heads[static_cast<size_t>(layer * shape.n_heads + head)];
      of_layer += n, heads += n > 0;
    }
    series.points.emplace_back(layer, of_layer / found.texts);
    by_layer += fmt::format("{}{:.0f}", layer > 0 ? " " : "", of_layer);
  }
  run.plot({"Hidden sinks of a text", "layer", "sinks, all heads together", {series}});
  return Outcome{heads > 0, fmt::format("{:.1f} a text, in {} of {} heads; of the layers {}", found.n / found.texts,
                                        heads, found.of_heads.size(), by_layer)};
}
std::function<Result<Outcome>(Run&)> of_sinks(Outcome (*judge)(const Sinks&)) {
  return [judge](Run& run) -> Result<Outcome> {
    FOVEA_ASSIGN_OR_RETURN(const Sinks found, hidden_sinks(run));
    return found.n > 0 ? judge(found) : no_data("there are no hidden sinks");
  };
}
Outcome at_marks(const Sinks& found) {
  return {found.marks > 0.5, fmt::format("{:.0f} % of sinks, {:.0f} % of all keys; most often {}", 100 * found.marks,
                                         100 * found.marks_all, found.most)};
}
Outcome first_dominates(const Sinks& found) {
  return {found.first > found.weight,
          fmt::format("{:.3f} in heads that have hidden sinks, these {:.3f}", found.first, found.weight)};
}

Result<Outcome> chosen_heads(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const std::vector<Split> splits, filtered(run));
  const Gain gain = gain_of(splits, &Split::gains, run.seed());
  std::string each;
  for (const Split& split : splits)
    each += fmt::format("{}{:+.1f}", each.empty() ? "" : ", ", 100 * tasks::mean_of(split.gains));
  if (gain.heads == 0) return no_data("no head gains alone");
  return Outcome{gain.mean >= 0,
                 fmt::format("{:+.2f} points ({:+.2f} to {:+.2f}; {}), dense {:.1f} %; {:.1f} heads", gain.mean,
                             100 * gain.interval.low, 100 * gain.interval.high, each, gain.dense, gain.heads)};
}
// What a control gains: less than half of what the chosen heads do. Without a gain there is nothing to lose.
std::function<Result<Outcome>(Run&)> gains_less(std::vector<double> Split::*which) {
  return [which](Run& run) -> Result<Outcome> {
    FOVEA_ASSIGN_OR_RETURN(const std::vector<Split> splits, filtered(run));
    const Gain gain = gain_of(splits, &Split::gains, run.seed()), other = gain_of(splits, which, run.seed());
    const std::string words = fmt::format("{:+.2f} points ({:+.2f} to {:+.2f}), the chosen {:+.2f}", other.mean,
                                          100 * other.interval.low, 100 * other.interval.high, gain.mean);
    if (gain.interval.low <= 0) return no_data("the chosen heads' gain may be none: " + words);
    return Outcome{other.mean < 0.5 * gain.mean, words};
  };
}
Result<Outcome> first_key_too(Run& run) {
  const TaskRun task{.task = "nll",
                     .length = run.lengths("loss-text", 0)[0],
                     .n_samples = run.number("loss-texts"),
                     .asking = tasks::Asking::kLater};
  const std::string all = fmt::format("act-attention-calibration:skip={}", skipped_layers(run));
  FOVEA_ASSIGN_OR_RETURN(const TaskScore dense, task_score(run, "dense", task));
  FOVEA_ASSIGN_OR_RETURN(const TaskScore spared, task_score(run, all, task));
  FOVEA_ASSIGN_OR_RETURN(const TaskScore taken, task_score(run, all + ":exclude_first=off", task));
  constexpr double kReads = 100;  // perplexity of a model that knows words
  if (std::exp(dense.nll) > kReads) return no_data(fmt::format("dense perplexity is {:.0f}", std::exp(dense.nll)));
  const auto more = [&dense](const TaskScore& of) { return 100 * (std::exp(of.nll - dense.nll) - 1); };
  return Outcome{more(taken) >= 10, fmt::format("{:+.1f} % of {:.2f}; with the first key spared {:+.1f} %", more(taken),
                                                std::exp(dense.nll), more(spared))};
}

Result<Outcome> cost(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const std::vector<int> heads, candidates(run));
  const auto spec = [&](int) { return calibrating(run, heads); };
  FOVEA_ASSIGN_OR_RETURN(Outcome out, cost_by_dense(run, run.lengths("regions", 0), spec, 1.5, 1.5));
  if (out.has_data) out.measured = fmt::format("{} heads; {}", heads.size(), out.measured);
  return out;
}

FOVEA_REPRODUCTION(Paper{
    .slug = "act-attention-calibration",
    .title =
        "Unveiling and Harnessing Hidden Attention Sinks: Enhancing Large Language Models without Training through "
        "Attention Calibration",
    .source = "arXiv:2406.15765",
    .n_items = 5,
    .model = "qwen2.5-coder-0.5b",
    .settings = {{"texts", "50", "3", "texts whose hidden sinks are counted", 1, 1000},
                 {"text", "128", "64", "tokens of each", 64, 1 << 16},
                 {"samples", "400", "16", "questions with labels: one half to choose heads by, one to test them", 8,
                  1 << 16},
                 {"candidates", "30", "2", "heads that are tried alone, those with the most sinks", 1, 1 << 16},
                 {"splits", "3", "1", "ways to halve the questions", 1, 100},
                 {"loss-text", "512", "128", "tokens of the texts of the loss", 64, 1 << 16},
                 {"loss-texts", "3", "1", "texts of the loss", 1, 1000},
                 {"regions", "512,2048", "256", "keys at which cost is measured", 64, 1 << 20}},
    .checks = {
        {1, kExact, "logits with beta 1", "the same bits", [](Run& run) { return idle(run, "beta=1"); }},
        {1, kExact, "logits without heads", "the same bits", [](Run& run) { return idle(run, "heads=none"); }},
        {1, kExact, "the row .5, .3, .2 with a sink", "0.6286, 0.1200, 0.2514", by_hand},
        {1, kExact, "rows of a prompt, by the explicit form", "1e-5 apart, sums of 1, none below 0",
         [](Run&) -> Result<Outcome> { return rows(whole_rows()); }},
        {1, kExact, "decoded rows, by the explicit form over the whole map", "1e-5 apart, sums of 1, none below 0",
         [](Run&) -> Result<Outcome> { return rows(decoded_rows()); }},
        {2, kShape, "heads with hidden sinks", "some", some_heads},
        {2, kShape, "hidden sinks at tokens without letter and digit", "most", of_sinks(at_marks)},
        {2, kShape, "mean weight of the first key", "more than that of hidden sinks", of_sinks(first_dominates)},
        {3, kShape, "accuracy on the other half, chosen heads calibrated", ">= dense", chosen_heads},
        {4, kControl, "accuracy, as many other heads", "less than half of the gain", gains_less(&Split::random)},
        {4, kControl, "accuracy, as many other keys", "less than half of the gain", gains_less(&Split::elsewhere)},
        {4, kControl, "perplexity, all heads and the first key", "10 % over dense or more", first_key_too},
        {5, kShape, "time of prompt and step, by dense", "1.5x at most", cost}}});

}  // namespace
}  // namespace fovea::papers::act
