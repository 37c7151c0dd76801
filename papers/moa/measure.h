// What the checks of moa measure: the mask, influence by hiding keys, the planner, plans, and what they lose.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fovea/probe/measures/moa_plan.h"
#include "papers/support/decode_run.h"

namespace fovea::papers::moa {

using Profile = std::shared_ptr<const attention::HeadProfile>;

// One rule for all heads on the run's model: the largest distance of its logits, over 152 random tokens, from those
// of dense attention where a hook hides what lies behind first keys and window.
Result<double> naive_mask_apart(Run& run);

// E of keys by what the loss does: where one is hidden and the row renormalised, or to first order, by small steps of
// its score. Of those that matter most among keys with a weight in [least, most), n of them.
enum class By { kHiding, kSmallSteps };
struct Scatter {
  int n = 0;
  double correlation = 0, slope = 0;
};
inline constexpr double kSmall = 0.05;
Result<Scatter> influence_by(Run& run, By by, double least, double most, int n);
// The largest |sum_j (1 - A_ij) E_ij| of a row, by the largest |E|, over all heads.
Result<double> row_identity(Run& run);

// Random instances of 4 heads in 2 layers, 5 plans, 2 budgets: how many the planner solves as well as trying all.
struct Solved {
  int n = 0, equal = 0, fit = 0;  // fit: instances that have a solution
};
Solved against_brute_force(uint64_t seed);

// A plan of the run's model. Influence is measured once, a cell a length; `shuffled`: each head has another's.
struct Plan {
  probe::HeadRules rules;
  std::vector<int> lengths;       // where the budget holds
  std::vector<double> densities;  // there
  double wanted = 0;
  int block = 0;
  Profile profile;
};
Result<Plan> plan(Run& run, int percent, bool shuffled = false);
inline constexpr int kAnswer = 64;  // tokens that an answer may have, at most
inline constexpr const char* kPlan = "moa:plan=profile";

// Loss of the dense model's answers to prompts that no plan was made or chosen by, in nats a token: dense, the plan,
// one span for all, the plan's rules dealt out anew within layers (mean over the draws), and the plan of influence
// dealt out at random. A cell a length.
struct Losses {
  int length = 0, prompts = 0, draws = 0;
  double dense = 0, plan = 0, uniform = 0, shuffled = 0, random = 0;
  double gain() const { return uniform - plan; }
};
Result<Losses> losses(Run& run, int percent, int length);

// Keys and bytes of the cache behind a prompt of random tokens, and those of the plan's spans.
struct Kept {
  int n_prompt = 0;
  bool keys_equal = false;
  double bytes = 0, of_plan = 0, slack = 0;  // shares of dense; slack: a page a head
};
Result<Kept> kept(Run& run, const Plan& plan);

// Checks of the losses at every length behind those of the plan, for each density.
using Judge = Outcome (*)(const std::vector<Losses>& of_lengths);
std::function<Result<Outcome>(Run&)> of_losses(Judge judge);
Outcome less_than_uniform(const std::vector<Losses>& all);
Outcome gap_grows(const std::vector<Losses>& all);
// Whether another plan loses more than half of what the plan gains over one span for all, at the longest length. No
// data below four prompts and three draws.
Outcome loses_most(const std::vector<Losses>& all, double Losses::*other);

}  // namespace fovea::papers::moa
