#include <fmt/format.h>

#include <algorithm>

#include "papers/moa/measure.h"

namespace fovea::papers::moa {
namespace {

std::string over_lengths(const std::vector<Losses>& all, double (*value)(const Losses&)) {
  std::string out;
  for (const Losses& at : all) out += fmt::format("{}{:.3f} at {}", out.empty() ? "" : ", ", value(at), at.length);
  return out;
}

}  // namespace

std::function<Result<Outcome>(Run&)> of_losses(Judge judge) {
  return [judge](Run& run) -> Result<Outcome> {
    Outcome out{true, {}, false};
    for (const int percent : run.numbers("density")) {
      std::vector<Losses> all;
      for (const int length : run.lengths("unseen", kAnswer)) {
        FOVEA_ASSIGN_OR_RETURN(const Losses at, losses(run, percent, length));
        all.push_back(at);
      }
      const Outcome one = judge(all);
      if (one.has_data) out.passed = out.passed && one.passed, out.has_data = true;
      out.measured += fmt::format("{}density 0.{:02}: {}", out.measured.empty() ? "" : "; ", percent, one.measured);
    }
    return out.has_data ? out : no_data(out.measured);
  };
}
Outcome less_than_uniform(const std::vector<Losses>& all) {
  return {std::all_of(all.begin(), all.end(), [](const Losses& at) { return at.gain() > 0; }),
          fmt::format("plan {}; one span {}; dense {}", over_lengths(all, [](const Losses& at) { return at.plan; }),
                      over_lengths(all, [](const Losses& at) { return at.uniform; }),
                      over_lengths(all, [](const Losses& at) { return at.dense; }))};
}
Outcome gap_grows(const std::vector<Losses>& all) {
  if (all.size() < 2) return {false, "one length alone", false};
  return {all.back().gain() > all.front().gain(), over_lengths(all, [](const Losses& at) { return at.gain(); })};
}
Outcome loses_most(const std::vector<Losses>& all, double Losses::*other) {
  const Losses& at = all.back();
  if (at.prompts < 4 || at.draws < 3) return {false, "too few prompts or draws", false};
  constexpr double kEnough = 0.05;  // nats
  if (at.gain() < kEnough) return {false, fmt::format("the plan gains {:.3f} nats", at.gain()), false};
  return {at.uniform - at.*other < 0.5 * at.gain(),
          fmt::format("gains {:.3f} nats at {} tokens, the plan {:.3f}", at.uniform - at.*other, at.length, at.gain())};
}

}  // namespace fovea::papers::moa
