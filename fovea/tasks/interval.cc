#include "fovea/tasks/interval.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/base/random.h"

namespace fovea::tasks {
namespace {

constexpr double kZ = 1.959964;  // 97.5 % of a normal distribution lie below
constexpr int kResamples = 2000;

}  // namespace

double mean_of(std::span<const double> values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
Interval wilson_interval(int64_t n_right, int64_t n) {
  FOVEA_CHECK(n > 0, "an interval of no samples");
  const auto count = static_cast<double>(n);
  const double p = static_cast<double>(n_right) / count, z2 = kZ * kZ;
  const double middle = p + z2 / (2 * count), half = kZ * std::sqrt(p * (1 - p) / count + z2 / (4 * count * count));
  const double scale = 1 + z2 / count;
  // At 0 and n one end is where it must be but for rounding.
  return {n_right == 0 ? 0 : (middle - half) / scale, n_right == n ? 1 : (middle + half) / scale};
}

Interval bootstrap_interval(std::span<const double> values, uint64_t seed) {
  FOVEA_CHECK(!values.empty(), "an interval of no samples");
  Rng rng(seed);
  std::vector<double> means(kResamples), drawn(values.size());
  for (double& mean : means) {
    for (double& value : drawn) value = values[rng.below(values.size())];
    mean = mean_of(drawn);
  }
  std::sort(means.begin(), means.end());
  return {means[kResamples / 40], means[kResamples - 1 - kResamples / 40]};
}

Interval score_interval(std::span<const double> values, uint64_t seed) {
  if (!std::all_of(values.begin(), values.end(), [](double v) { return v == 0 || v == 1; }))
    return bootstrap_interval(values, seed);
  return wilson_interval(std::count(values.begin(), values.end(), 1.0), static_cast<int64_t>(values.size()));
}

}  // namespace fovea::tasks
