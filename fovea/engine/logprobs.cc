#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "fovea/base/check.h"
#include "fovea/engine/generate.h"

namespace fovea::engine {

PositionLogprobs logprobs_of(std::span<const float> logits, int32_t chosen, int n_top) {
  FOVEA_CHECK(chosen >= 0 && static_cast<size_t>(chosen) < logits.size() && n_top >= 0, "logprobs_of: token {}, top {}",
              chosen, n_top);
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  const auto at = [&](int32_t id) {
    const float logit = logits[static_cast<size_t>(id)];
    return std::isnan(logit) ? kNever : logit;
  };
  float max = kNever;
  for (const float logit : logits) max = logit > max ? logit : max;
  double sum = 0;
  for (const float logit : logits) {
    if (logit > kNever) sum += std::exp(double{logit} - max);
  }
  const double log_sum = max + std::log(sum);
  const auto entry = [&](int32_t id) {
    return TokenLogprob{id, at(id) > kNever ? static_cast<float>(at(id) - log_sum) : kNever};
  };
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto n = std::min(ids.size(), static_cast<size_t>(n_top));
  std::partial_sort(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(n), ids.end(),
                    [&](int32_t a, int32_t b) { return at(a) > at(b) || (at(a) == at(b) && a < b); });
  PositionLogprobs out{entry(chosen), {}};
  for (size_t i = 0; i < n; ++i) out.top.push_back(entry(ids[i]));
  return out;
}

}  // namespace fovea::engine
