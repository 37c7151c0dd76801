// Draws items such that, however many were drawn, each came as often as its share says, to about one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "fovea/base/random.h"

namespace fovea::tasks {

// An item of share w is due once in each stretch of 1 / w draws, anywhere in it.
class Shares {
 public:
  Shares(std::vector<double> weights, Rng& rng) : shares_(std::move(weights)), counts_(shares_.size()) {
    const double sum = std::accumulate(shares_.begin(), shares_.end(), 0.0);
    for (double& share : shares_) share /= sum;
    for (const double share : shares_) due_.push_back(rng.uniform() / share);
  }
  size_t next(Rng& rng) {
    const auto first = static_cast<size_t>(std::min_element(due_.begin(), due_.end()) - due_.begin());
    ++counts_[first];
    due_[first] = (static_cast<double>(counts_[first]) + rng.uniform()) / shares_[first];
    return first;
  }

 private:
  std::vector<double> shares_;
  std::vector<int64_t> counts_;
  std::vector<double> due_;
};

}  // namespace fovea::tasks
