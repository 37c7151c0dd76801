// Fu et al., "MoA: Mixture of Sparse Attention for Automatic Large Language Model Compression", arXiv:2406.14909: each
// head's window has a rule of its own (sec. 3), found by how much of the loss hangs on what lies far back (sec. 4).
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "papers/moa/measure.h"
#include "papers/support/task_run.h"

namespace fovea::papers::moa {
namespace {
using enum Kind;

Result<Outcome> naive_mask(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const double apart, naive_mask_apart(run));
  return Outcome{apart <= 1e-4, fmt::format("{:.1g} apart at most, of 152 rows", apart)};
}
Result<Outcome> first_order(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Scatter found, influence_by(run, By::kSmallSteps, 0, 0.9, 20));
  return Outcome{found.n >= 20 && found.correlation > 0.999 && std::abs(found.slope - 1) < 0.02,
                 fmt::format("correlation {:.5f}, slope {:.4f}, of {} keys", found.correlation, found.slope, found.n)};
}
Result<Outcome> hidden(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Scatter small, influence_by(run, By::kHiding, 0, kSmall, 50));
  FOVEA_ASSIGN_OR_RETURN(const Scatter large, influence_by(run, By::kHiding, kSmall, 0.5, 15));
  return Outcome{small.n >= 40 && small.correlation > 0.95 && std::abs(small.slope - 1) < 0.15,
                 fmt::format("correlation {:.4f}, slope {:.3f}, of {} keys; weights of {} to 0.5: {:.4f} and {:.3f}",
                             small.correlation, small.slope, small.n, kSmall, large.correlation, large.slope)};
}
Result<Outcome> identity(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const double worst, row_identity(run));
  return Outcome{worst < 1e-4, fmt::format("{:.1g} of the largest E at most", worst)};
}
Result<Outcome> brute_force(Run& run) {
  const Solved found = against_brute_force(run.seed());
  return Outcome{found.equal == found.n && found.fit > 10,
                 fmt::format("{} of {}, {} of them have a solution", found.equal, found.n, found.fit)};
}

// Of each density its plan's share of the text, at every length that the budget holds at.
Result<Outcome> densities(Run& run, bool (*holds)(const Plan& plan, double density)) {
  Outcome out{true, {}};
  for (const int percent : run.numbers("density")) {
    FOVEA_ASSIGN_OR_RETURN(const Plan found, plan(run, percent));
    for (const double density : found.densities) out.passed = out.passed && holds(found, density);
    out.measured += fmt::format("{}{:.3f} of {:.2f} at {} tokens", out.measured.empty() ? "" : "; ",
                                fmt::join(found.densities, ", "), found.wanted, fmt::join(found.lengths, ", "));
  }
  return out;
}

// Passkeys at every length: dense, the plan and one span for all.
Result<Outcome> passkeys(Run& run) {
  Outcome out{true, {}, false};
  for (const int percent : run.numbers("density")) {
    FOVEA_ASSIGN_OR_RETURN(const Plan found, plan(run, percent));
    for (const int length : run.lengths("unseen", kAnswer)) {
      double scores[3] = {}, bytes = 1;
      const std::string ways[3] = {"dense", kPlan, std::string(kPlan) + ":control=uniform"};
      for (size_t i = 0; i < 3; ++i) {
        TaskRun task{.task = "passkey", .length = length, .n_samples = run.number("samples")};
        if (i > 0) task.profile = found.profile, task.columns = {"moa_alpha", "moa_beta", "moa_block"};
        FOVEA_ASSIGN_OR_RETURN(const TaskScore score, task_score(run, ways[i], task));
        scores[i] = score.score;
        if (i == 1) bytes = score.bytes;
      }
      out.measured +=
          fmt::format("{}density 0.{:02} at {}: {:.0f} %, one span {:.0f}, dense {:.0f}; {:.2f} of the bytes",
                      out.measured.empty() ? "" : "; ", percent, length, scores[1], scores[2], scores[0], bytes);
      if (scores[0] < kEnoughOfDense) continue;
      out.has_data = true;
      out.passed = out.passed && scores[1] > scores[2];
    }
  }
  return out.has_data ? out : no_data("dense attention finds too few: " + out.measured);
}

Result<Outcome> memory(Run& run) {
  Outcome out{true, {}};
  for (const int percent : run.numbers("density")) {
    FOVEA_ASSIGN_OR_RETURN(const Plan found, plan(run, percent));
    FOVEA_ASSIGN_OR_RETURN(const Kept got, kept(run, found));
    out.passed = out.passed && got.keys_equal && std::abs(got.bytes - got.of_plan) <= got.slack;
    out.measured += fmt::format("{}{} keys a head, {:.3f} of dense, the plan {:.3f}, at {} tokens",
                                out.measured.empty() ? "" : "; ", got.keys_equal ? "the plan's" : "other", got.bytes,
                                got.of_plan, got.n_prompt);
  }
  return out;
}

FOVEA_REPRODUCTION(Paper{
    .slug = "moa",
    .title = "MoA: Mixture of Sparse Attention for Automatic Large Language Model Compression",
    .source = "arXiv:2406.14909",
    .n_items = 5,
    .model = "qwen2.5-coder-0.5b",
    .settings = {{"lengths", "512,1024", "320,384", "tokens of the prompts whose influence is measured, rising", 64,
                  1 << 16},
                 {"validate", "2048", "448", "tokens of the prompts that choose among plans; budgets hold there too",
                  64, 1 << 16},
                 {"density", "50,30", "50", "mean span, percent of the text", 5, 100},
                 {"block", "16", "16", "tokens", 1, 1024},
                 {"profiled", "2", "1", "prompts of each length whose influence is measured", 1, 100},
                 {"unseen", "1024,2048", "320,448", "tokens of the prompts that plans are compared on, rising", 64,
                  1 << 20},
                 {"answers", "4", "1", "prompts of the losses", 1, 1000},
                 {"samples", "10", "2", "prompts with a passkey", 1, 1000},
                 {"draws", "3", "1", "draws of shuffled heads", 1, 100},
                 {"memory-length", "2048", "448", "tokens behind which keys and bytes are counted", 64, 1 << 20}},
    .checks = {
        {1, kExact, "logits with alpha 0 and beta 1", "the same bits",
         [](Run& run) { return same_bits_throughout(run, "moa:alpha=0:beta=1"); }},
        {1, kExact, "logits of one rule for all, by a mask on the scores", "1e-4 apart at most", naive_mask},
        {2, kExact, "influence of keys, by small steps of their scores", "correlation > 0.999, slope 1 to 0.02",
         first_order},
        {2, kShape, "influence of keys with a weight under 0.05, by hiding them", "correlation > 0.95, slope 1 to 0.15",
         hidden},
        {2, kExact, "rows of influence, weighed by 1 - A", "sum to 0, to 1e-4 of the largest", identity},
        {3, kExact, "planner on 4 heads and 5 plans, by trying all", "the same cost, always", brute_force},
        {3, kExact, "densities of plans", "the budget at most, at every length",
         [](Run& run) {
           return densities(run, [](const Plan& of, double density) { return density <= of.wanted + 1e-9; });
         }},
        {3, kShape, "densities of plans, from below", "0.9 of the budget or more",
         [](Run& run) {
           return densities(run, [](const Plan& of, double density) { return density >= 0.9 * of.wanted; });
         }},
        {4, kShape, "loss of answers, by one span for all", "less, at every length", of_losses(less_than_uniform)},
        {4, kShape, "nats that the plan gains over one span for all", "more at the longest length",
         of_losses(gap_grows)},
        {4, kShape, "passkeys, by one span for all", "more, at every length", passkeys},
        {5, kControl, "nats gained, heads shuffled within layers", "less than half of the plan's",
         of_losses([](const std::vector<Losses>& all) { return loses_most(all, &Losses::shuffled); })},
        {5, kControl, "nats gained, a plan of shuffled influence", "less than half of the plan's",
         of_losses([](const std::vector<Losses>& all) { return loses_most(all, &Losses::random); })},
        {5, kExact, "keys and bytes", "the plan's keys, its bytes but for a page a head", memory}}});

}  // namespace
}  // namespace fovea::papers::moa
