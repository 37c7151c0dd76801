#include "fovea/probe/measures/head_plans.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <utility>

namespace fovea::probe {
namespace {

using PlanSizes = std::vector<int64_t>;          // of each budget
using Layer = std::vector<std::vector<double>>;  // [head][plan]

class PlanSearch {
 public:
  PlanSearch(const std::vector<Layer>& costs, const std::vector<PlanSizes>& sizes, const PlanSizes& budgets,
             size_t max_states)
      : costs_(costs), sizes_(sizes), budgets_(budgets), max_states_(max_states), prices_(budgets.size(), 0.0) {}

  Result<HeadPlans> run() {
    raise_bound();
    if (first_) {
      improve(*first_);
      first_->bound = bound_;
      const double gap = std::max(1e-9, first_->cost - bound_);
      Result<std::optional<HeadPlans>> found = within(gap);
      // One as cheap as the first may be left out by a rounding, and another, dearer one found.
      if (found && *found && (*found)->cost < first_->cost) return std::move(**found);
      if (!found && found.error().code != ErrorCode::kLimit) return std::move(found.error());
      first_->optimal = found.has_value();  // nothing below it, but for rounding
      return std::move(*first_);
    }
    // A choice of cost C is C - bound above the least of all layers together at the most: what was found within that
    // distance is the best there is.
    for (double gap = std::max(1e-9, 1e-5 * std::abs(bound_));;) {
      FOVEA_ASSIGN_OR_RETURN(std::optional<HeadPlans> found, within(gap));
      if (found && found->cost - bound_ <= gap) return std::move(*found);
      if (!found && !left_out_)
        return make_error(ErrorCode::kData, "choose_head_plans: the budgets are smaller than any choice of plans");
      gap = found ? found->cost - bound_ : 4 * gap;
    }
  }

 private:
  // What the heads of a layer may have together. `above`: cost and price over those of the layer's best.
  struct Assignment {
    std::vector<size_t> plans;
    double cost = 0, above = 0;
    PlanSizes sizes = {};
  };
  struct Partial {
    double cost, above;
    const std::pair<const PlanSizes, Partial>* before;
    const Assignment* last;
  };
  using States = std::map<PlanSizes, Partial>;

  size_t n_plans() const { return sizes_.size(); }
  double priced(const Layer& layer, size_t head, size_t plan, const std::vector<double>& prices) const {
    double sum = layer[head][plan];
    for (size_t b = 0; b < prices.size(); ++b) sum += prices[b] * static_cast<double>(sizes_[plan][b]);
    return sum;
  }
  // The least of a layer over all pairs of plans; adds the sizes of that to `taken`, and says which plans.
  double least(const Layer& layer, const std::vector<double>& prices, std::vector<double>& taken,
               std::vector<size_t>& plans) const {
    std::vector<double> values(layer.size() * n_plans());
    for (size_t h = 0; h < layer.size(); ++h) {
      for (size_t p = 0; p < n_plans(); ++p) values[h * n_plans() + p] = priced(layer, h, p, prices);
    }
    double best = std::numeric_limits<double>::infinity();
    std::pair<size_t, size_t> pair;
    for (size_t p = 0; p < n_plans(); ++p) {
      for (size_t q = p; q < n_plans(); ++q) {
        double sum = 0;
        for (size_t h = 0; h < layer.size(); ++h) sum += std::min(values[h * n_plans() + p], values[h * n_plans() + q]);
        if (sum < best) best = sum, pair = {p, q};
      }
    }
    for (size_t h = 0; h < layer.size(); ++h) {
      const bool first = values[h * n_plans() + pair.first] <= values[h * n_plans() + pair.second];
      plans.push_back(first ? pair.first : pair.second);
      const PlanSizes& mine = sizes_[plans.back()];
      for (size_t b = 0; b < mine.size(); ++b) taken[b] += static_cast<double>(mine[b]);
    }
    return best;
  }
  // Prices that make the bound high: steps along what is over the budgets, ever smaller.
  void raise_bound() {
    constexpr int kSteps = 300;
    double step = 0;
    for (const Layer& layer : costs_) {
      for (const auto& head : layer) step += *std::max_element(head.begin(), head.end());
    }
    std::vector<double> prices(budgets_.size(), 0.0);
    for (int i = 0; i < kSteps; ++i, step *= 0.97) {
      std::vector<double> over(budgets_.size(), 0.0), leasts;
      double bound = 0;
      HeadPlans choice{.plans = std::vector<std::vector<size_t>>(costs_.size())};
      for (size_t l = 0; l < costs_.size(); ++l) {
        leasts.push_back(least(costs_[l], prices, over, choice.plans[l]));
        bound += leasts.back();
      }
      take(std::move(choice));
      for (size_t b = 0; b < budgets_.size(); ++b) {
        const auto budget = static_cast<double>(budgets_[b]);
        bound -= prices[b] * budget;
        over[b] -= budget;
      }
      if (bound > bound_) bound_ = bound, prices_ = prices, leasts_ = leasts;
      for (size_t b = 0; b < budgets_.size(); ++b) {
        const double unit = std::max(1.0, static_cast<double>(budgets_[b]));
        prices[b] = std::max(0.0, prices[b] + step * over[b] / unit / unit);
      }
    }
  }

  double cost_of(const HeadPlans& choice) const {
    double cost = 0;
    for (size_t l = 0; l < costs_.size(); ++l) {
      for (size_t h = 0; h < costs_[l].size(); ++h) cost += costs_[l][h][choice.plans[l][h]];
    }
    return cost;
  }
  PlanSizes left_by(const HeadPlans& choice) const {  // of the budgets
    PlanSizes left = budgets_;
    for (const auto& layer : choice.plans) {
      for (const size_t plan : layer) {
        for (size_t b = 0; b < left.size(); ++b) left[b] -= sizes_[plan][b];
      }
    }
    return left;
  }
  // Keeps the cheapest choice that fits.
  void take(HeadPlans choice) {
    const PlanSizes left = left_by(choice);
    if (std::any_of(left.begin(), left.end(), [](int64_t size) { return size < 0; })) return;
    choice.cost = cost_of(choice);
    if (!first_ || choice.cost < first_->cost) first_ = std::move(choice);
  }
  // Gives one layer after the other the cheapest plans that fit beside those of the others, until nothing changes. For
  // each pair of plans heads start with the smaller cost and change where a budget is overrun, cheapest first.
  void improve(HeadPlans& choice) const {
    for (bool better = true; better;) {
      better = false;
      for (size_t l = 0; l < costs_.size(); ++l) {
        PlanSizes room = left_by(choice);
        double mine = 0;
        for (size_t h = 0; h < costs_[l].size(); ++h) {
          mine += costs_[l][h][choice.plans[l][h]];
          for (size_t b = 0; b < room.size(); ++b) room[b] += sizes_[choice.plans[l][h]][b];
        }
        for (size_t p = 0; p < n_plans(); ++p) {
          for (size_t q = p; q < n_plans(); ++q) {
            const std::optional<std::pair<double, std::vector<size_t>>> fit = fitted(costs_[l], p, q, room);
            if (!fit || fit->first >= mine - 1e-12 * std::abs(mine)) continue;
            mine = fit->first, choice.plans[l] = fit->second, better = true;
          }
        }
      }
    }
    choice.cost = cost_of(choice);
  }
  std::optional<std::pair<double, std::vector<size_t>>> fitted(const Layer& layer, size_t p, size_t q,
                                                               PlanSizes room) const {
    std::vector<size_t> plans;
    std::vector<bool> changed(layer.size(), false);
    double cost = 0;
    for (const std::vector<double>& head : layer) {
      plans.push_back(head[p] <= head[q] ? p : q);
      cost += head[plans.back()];
      for (size_t b = 0; b < room.size(); ++b) room[b] -= sizes_[plans.back()][b];
    }
    const auto over = [&] { return std::any_of(room.begin(), room.end(), [](int64_t size) { return size < 0; }); };
    while (over()) {
      size_t best = layer.size();
      double least = std::numeric_limits<double>::infinity();
      for (size_t h = 0; h < layer.size(); ++h) {
        const size_t other = plans[h] == p ? q : p;
        bool relieves = other != plans[h] && !changed[h];
        for (size_t b = 0; b < room.size(); ++b)
          relieves = relieves && (room[b] >= 0 || sizes_[other][b] < sizes_[plans[h]][b]);
        const double more = layer[h][other] - layer[h][plans[h]];
        if (relieves && more < least) least = more, best = h;
      }
      if (best == layer.size()) return std::nullopt;
      const size_t other = plans[best] == p ? q : p;
      for (size_t b = 0; b < room.size(); ++b) room[b] += sizes_[plans[best]][b] - sizes_[other][b];
      cost += least;
      plans[best] = other, changed[best] = true;
    }
    return std::pair(cost, std::move(plans));
  }

  // Assignments of a layer that are at most `gap` above its least, the cheapest of equal sizes.
  Result<std::vector<Assignment>> near(size_t layer_index, double gap) {
    const Layer& layer = costs_[layer_index];
    std::map<PlanSizes, Assignment> kept;
    Assignment now{.plans = std::vector<size_t>(layer.size())};
    const auto keep = [&] {
      now.cost = 0;
      now.sizes.assign(budgets_.size(), 0);
      for (size_t h = 0; h < layer.size(); ++h) {
        now.cost += layer[h][now.plans[h]];
        for (size_t b = 0; b < budgets_.size(); ++b) now.sizes[b] += sizes_[now.plans[h]][b];
      }
      const auto [at, is_new] = kept.try_emplace(now.sizes, now);
      if (!is_new && now.cost < at->second.cost) at->second = now;
    };
    for (size_t p = 0; p < n_plans(); ++p) {
      for (size_t q = p; q < n_plans(); ++q) {
        std::vector<double> rest(layer.size() + 1, 0.0);  // the least of the heads from here on
        for (size_t h = layer.size(); h-- > 0;)
          rest[h] = rest[h + 1] + std::min(priced(layer, h, p, prices_), priced(layer, h, q, prices_));
        const auto go = [&](const auto& self, size_t h, double sum) -> void {
          if (sum + rest[h] - leasts_[layer_index] > gap) {
            left_out_ = true;
            return;
          }
          if (kept.size() > max_states_) return;
          if (h == layer.size()) {
            now.above = sum - leasts_[layer_index];
            return keep();
          }
          now.plans[h] = p;
          self(self, h + 1, sum + priced(layer, h, p, prices_));
          if (q == p) return;
          now.plans[h] = q;
          self(self, h + 1, sum + priced(layer, h, q, prices_));
        };
        go(go, 0, 0.0);
      }
    }
    if (kept.size() > max_states_) return too_many(layer_index);
    std::vector<Assignment> out;
    for (auto& [sizes, assignment] : kept) out.push_back(std::move(assignment));
    return out;
  }
  Error too_many(size_t layer) const {
    return make_error(ErrorCode::kLimit,
                      "choose_head_plans: more than {} partial choices at layer {} of {}; take coarser or fewer plans",
                      max_states_, layer, costs_.size());
  }

  // The best of the choices that are at most `gap` above the bound; none if none of them fits.
  Result<std::optional<HeadPlans>> within(double gap) {
    left_out_ = false;
    std::vector<std::vector<Assignment>> options;
    for (size_t l = 0; l < costs_.size(); ++l) {
      FOVEA_ASSIGN_OR_RETURN(std::vector<Assignment> mine, near(l, gap));
      options.push_back(std::move(mine));
    }
    std::vector<States> layers(1);
    layers[0].try_emplace(PlanSizes(budgets_.size(), 0), Partial{0, 0, nullptr, nullptr});
    size_t n_states = 0;
    for (size_t l = 0; l < costs_.size(); ++l) {
      States next;
      for (const auto& state : layers[l]) {
        for (const Assignment& option : options[l]) {
          const double above = state.second.above + option.above, cost = state.second.cost + option.cost;
          if (above > gap) {
            left_out_ = true;
            continue;
          }
          PlanSizes sizes = state.first;
          bool fits = true;
          for (size_t b = 0; b < sizes.size(); ++b) fits = (sizes[b] += option.sizes[b]) <= budgets_[b] && fits;
          if (!fits) continue;
          const Partial partial{cost, above, &state, &option};
          const auto [at, is_new] = next.try_emplace(std::move(sizes), partial);
          if (!is_new && cost < at->second.cost) at->second = partial;
        }
      }
      n_states += next.size();
      if (n_states > max_states_) return too_many(l);
      layers.push_back(std::move(next));
    }
    const std::pair<const PlanSizes, Partial>* best = nullptr;
    for (const auto& state : layers.back()) {
      if (!best || state.second.cost < best->second.cost) best = &state;
    }
    if (!best) return std::optional<HeadPlans>();
    HeadPlans out{.plans = std::vector<std::vector<size_t>>(costs_.size()), .cost = best->second.cost, .bound = bound_};
    for (size_t l = costs_.size(); l-- > 0; best = best->second.before) out.plans[l] = best->second.last->plans;
    return std::optional<HeadPlans>(std::move(out));
  }

  const std::vector<Layer>& costs_;
  const std::vector<PlanSizes>& sizes_;
  const PlanSizes& budgets_;
  size_t max_states_;
  std::vector<double> prices_, leasts_;  // of a unit of each budget; of each layer under them
  double bound_ = -std::numeric_limits<double>::infinity();
  std::optional<HeadPlans> first_;  // the cheapest that fits of those that made the bound
  bool left_out_ = false;           // whether within() passed a choice over for its distance
};

Status check_plans(const std::vector<Layer>& costs, const std::vector<PlanSizes>& sizes, const PlanSizes& budgets) {
  if (sizes.empty()) return make_error(ErrorCode::kUsage, "choose_head_plans: there are no plans");
  for (const PlanSizes& plan : sizes) {
    if (plan.size() != budgets.size() || std::any_of(plan.begin(), plan.end(), [](int64_t size) { return size < 0; }))
      return make_error(ErrorCode::kUsage, "choose_head_plans: a plan wants {} sizes of 0 or more", budgets.size());
  }
  for (const Layer& layer : costs) {
    for (const std::vector<double>& head : layer) {
      if (head.size() != sizes.size())
        return make_error(ErrorCode::kUsage, "choose_head_plans: a head has {} costs for {} plans", head.size(),
                          sizes.size());
      if (!std::all_of(head.begin(), head.end(), [](double cost) { return std::isfinite(cost) && cost >= 0; }))
        return make_error(ErrorCode::kUsage, "choose_head_plans: a cost is negative or not finite");
    }
  }
  return {};
}

}  // namespace

Result<HeadPlans> choose_head_plans(const std::vector<std::vector<std::vector<double>>>& costs,
                                    const std::vector<std::vector<int64_t>>& sizes, const std::vector<int64_t>& budgets,
                                    size_t max_states) {
  FOVEA_RETURN_IF_ERROR(check_plans(costs, sizes, budgets));
  return PlanSearch(costs, sizes, budgets, max_states).run();
}

}  // namespace fovea::probe
