#include "fovea/train/solve/choice.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fovea::train {
namespace {

// A choice for the items so far: its last option, and the state of the items before that it continues.
struct State {
  double cost = 0;
  std::vector<int64_t> sizes;
  uint32_t before = 0, option = 0;
};

bool no_larger(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] > b[i]) return false;
  }
  return true;
}

Status check(const std::vector<std::vector<ItemOption>>& items, const std::vector<int64_t>& budgets) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].empty()) return make_error(ErrorCode::kUsage, "choose_options: item {} has no option", i);
    for (const ItemOption& option : items[i]) {
      if (!std::isfinite(option.cost))
        return make_error(ErrorCode::kUsage, "choose_options: a cost of item {} is {}", i, option.cost);
      if (option.sizes.size() != budgets.size())
        return make_error(ErrorCode::kUsage, "choose_options: an option of item {} has {} sizes, for {} budgets", i,
                          option.sizes.size(), budgets.size());
      for (const int64_t size : option.sizes) {
        if (size < 0 || size > std::numeric_limits<int64_t>::max() / 2)
          return make_error(ErrorCode::kUsage, "choose_options: a size of item {} is {}", i, size);
      }
    }
  }
  return {};
}

}  // namespace

Result<std::vector<size_t>> choose_options(const std::vector<std::vector<ItemOption>>& items,
                                           const std::vector<int64_t>& budgets, size_t max_states) {
  FOVEA_RETURN_IF_ERROR(check(items, budgets));
  // What the items behind need at the least: a partial choice that leaves less is none.
  std::vector<std::vector<int64_t>> needed(items.size() + 1, std::vector<int64_t>(budgets.size()));
  for (size_t i = items.size(); i-- > 0;) {
    for (size_t b = 0; b < budgets.size(); ++b) {
      int64_t least = std::numeric_limits<int64_t>::max();
      for (const ItemOption& option : items[i]) least = std::min(least, option.sizes[b]);
      if (needed[i + 1][b] > std::numeric_limits<int64_t>::max() / 2 - least)
        return make_error(ErrorCode::kUsage, "choose_options: the sizes are too large to add");
      needed[i][b] = needed[i + 1][b] + least;
    }
  }
  std::vector<std::vector<State>> layers = {{State{0, std::vector<int64_t>(budgets.size()), 0, 0}}};
  size_t n_states = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    std::vector<State> all, kept;
    for (size_t s = 0; s < layers[i].size(); ++s) {
      for (size_t o = 0; o < items[i].size(); ++o) {
        State state = layers[i][s];
        state.cost += items[i][o].cost;
        bool fits = true;
        for (size_t b = 0; b < budgets.size(); ++b) {
          state.sizes[b] += items[i][o].sizes[b];
          fits = fits && state.sizes[b] <= budgets[b] - needed[i + 1][b];
        }
        if (!fits) continue;
        state.before = static_cast<uint32_t>(s), state.option = static_cast<uint32_t>(o);
        all.push_back(std::move(state));
        if (n_states + all.size() > max_states)
          return make_error(ErrorCode::kLimit,
                            "choose_options: more than {} partial choices at item {} of {}; take "
                            "coarser sizes or fewer options",
                            max_states, i, items.size());
      }
    }
    if (all.empty())
      return make_error(ErrorCode::kData, "choose_options: the budgets are smaller than the smallest options together");
    std::stable_sort(all.begin(), all.end(), [](const State& a, const State& b) {
      return a.cost != b.cost ? a.cost < b.cost : a.sizes < b.sizes;
    });
    for (State& state : all) {
      const bool beaten = std::any_of(kept.rbegin(), kept.rend(),
                                      [&](const State& cheaper) { return no_larger(cheaper.sizes, state.sizes); });
      if (!beaten) kept.push_back(std::move(state));
    }
    n_states += kept.size();
    layers.push_back(std::move(kept));
  }
  std::vector<size_t> out(items.size());
  size_t at = 0;  // the cheapest of the last layer
  for (size_t i = items.size(); i-- > 0;) {
    const State& state = layers[i + 1][at];
    out[i] = state.option;
    at = state.before;
  }
  return out;
}

}  // namespace fovea::train
