#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "fovea/probe/measures/column.h"
#include "fovea/probe/measures/repeat_columns.h"
#include "papers/razor-attention/measure.h"

namespace fovea::papers::razor_attention {
namespace {

// The maximum over the query heads of each KV head.
std::vector<double> by_kv_head(const attention::ModelShape& shape, const std::vector<double>& of_heads) {
  std::vector<double> out(of_heads.size() / static_cast<size_t>(shape.group()), 0.0);
  for (size_t head = 0; head < of_heads.size(); ++head) {
    double& most = out[head / static_cast<size_t>(shape.group())];
    most = std::max(most, of_heads[head]);
  }
  return out;
}

// How many of the best n_top by one score are among those by the other.
size_t common_of_best(const std::vector<double>& a, const std::vector<double>& b, size_t n_top) {
  const auto best = [n_top](const std::vector<double>& scores) {
    std::vector<size_t> ids(scores.size());
    std::iota(ids.begin(), ids.end(), size_t{0});
    std::stable_sort(ids.begin(), ids.end(), [&](size_t x, size_t y) { return scores[x] > scores[y]; });
    return std::set<size_t>(ids.begin(), ids.begin() + static_cast<int64_t>(n_top));
  };
  const std::set<size_t> best_a = best(a), best_b = best(b);
  return static_cast<size_t>(
      std::count_if(best_a.begin(), best_a.end(), [&](size_t head) { return best_b.contains(head); }));
}

}  // namespace

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

Result<Probe> probe_heads(Run& run) {
  const attention::ModelShape& shape = run.model()->shape();
  FOVEA_ASSIGN_OR_RETURN(const auto found, profile_of_model(run));
  auto profile = std::make_shared<attention::HeadProfile>();
  if (found) *profile = *found;
  profile->n_layers = shape.n_layers, profile->n_heads = shape.n_heads, profile->n_kv_heads = shape.n_kv_heads;
  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell("the probe", Json::object(), [&]() -> Result<Json> {
    FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, run.model()->tokenizer());
    FOVEA_ASSIGN_OR_RETURN(const auto session, engine::Session::create(run.model(), {.numerics = run.numerics()}));
    FOVEA_RETURN_IF_ERROR(probe::measure_repeats(*session, *tokenizer, run.seed(), *profile));
    return Json{{"induction", *profile->find("razor_induction")}, {"echo", *profile->find("razor_echo")}};
  }));
  probe::set_column(*profile, "razor_induction", cell.at("induction").get<std::vector<double>>());
  probe::set_column(*profile, "razor_echo", cell.at("echo").get<std::vector<double>>());
  Probe out{profile, by_kv_head(shape, *profile->find("razor_induction")), {}};
  if (const std::vector<double>* retrieval = profile->find("retrieval")) out.retrieval = by_kv_head(shape, *retrieval);
  return out;
}

Result<Outcome> heavy_tail(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Probe probe, probe_heads(run));
  std::vector<double> sorted = probe.induction;
  std::sort(sorted.rbegin(), sorted.rend());
  Series series{"induction", {}};
  for (const double score : sorted) series.points.emplace_back(series.points.size(), score);
  run.plot({"Induction scores of the KV heads, in order", "KV head", "induction score", {series}});
  const double middle = sorted[sorted.size() / 2];
  const auto n_top = std::max<size_t>(1, static_cast<size_t>(std::lround(kInduction * std::ssize(sorted))));
  const double top = mean_of({sorted.begin(), sorted.begin() + static_cast<int64_t>(n_top)});
  return Outcome{top > 10 * middle, fmt::format("mean {:.3f} of the best {}, median {:.4f} of {}: {:.1f} times as much",
                                                top, n_top, middle, sorted.size(), top / middle)};
}
Result<Outcome> overlap(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Probe probe, probe_heads(run));
  if (probe.retrieval.empty()) return no_data("the model's profile has no retrieval scores (fovea profile)");
  const size_t n = probe.induction.size(), n_top = static_cast<size_t>(std::lround(0.15 * static_cast<double>(n)));
  const size_t both = common_of_best(probe.induction, probe.retrieval, n_top);
  const double chance = static_cast<double>(n_top * n_top) / static_cast<double>(n);
  return Outcome{static_cast<double>(both) >= 2 * chance,
                 fmt::format("{} of {}, by chance {:.1f}", both, n_top, chance)};
}

}  // namespace fovea::papers::razor_attention
