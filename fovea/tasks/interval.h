// How sure a mean of a few samples is: intervals that hold the true one in 95 of 100 cases.
#pragma once

#include <cstdint>
#include <span>

namespace fovea::tasks {

struct Interval {
  double low = 0, high = 0;
};

double mean_of(std::span<const double> values);  // 0 of none
// Of a share: `n_right` of `n`, n > 0. Wilson's score interval (J. Am. Stat. Assoc. 22, 1927): right at 0 and n too.
Interval wilson_interval(int64_t n_right, int64_t n);
// Of a mean: percentiles over 2,000 samples drawn with replacement (Efron & Tibshirani, 1993, ch. 13). At least one.
Interval bootstrap_interval(std::span<const double> values, uint64_t seed);
// Wilson's where all values are 0 or 1, else the bootstrap's.
Interval score_interval(std::span<const double> values, uint64_t seed);

}  // namespace fovea::tasks
