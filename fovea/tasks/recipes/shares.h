// Draws items such that, however many were drawn, each came as often as its share says, to one or two.
#pragma once

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "fovea/base/random.h"

namespace fovea::tasks {

class Shares {
 public:
  explicit Shares(std::vector<double> weights) : weights_(std::move(weights)), counts_(weights_.size()) {
    const double sum = std::accumulate(weights_.begin(), weights_.end(), 0.0);
    for (double& w : weights_) w /= sum;
  }
  // One of those that have come less often than their share of the draws with this one; there is one always.
  size_t next(Rng& rng) {
    ++n_;
    behind_.clear();
    for (size_t i = 0; i < weights_.size(); ++i) {
      if (static_cast<double>(counts_[i]) < weights_[i] * static_cast<double>(n_)) behind_.push_back(i);
    }
    const size_t drawn = behind_[rng.below(behind_.size())];
    ++counts_[drawn];
    return drawn;
  }
  int64_t count(size_t item) const { return counts_[item]; }

 private:
  std::vector<double> weights_;
  std::vector<int64_t> counts_;
  std::vector<size_t> behind_;
  int64_t n_ = 0;
};

}  // namespace fovea::tasks
