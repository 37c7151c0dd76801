#include "fovea/kernels/group_norm.h"

#include "fovea/kernels/f32.h"

namespace fovea::kernels {
namespace FOVEA_ISA_NS {
namespace {

constexpr int kLanes = F32::kLanes;
constexpr int64_t kRun = 32 * kLanes;  // summed in float: sixteen values a lane

// The sum of f(i) over lanes from i on, for whole runs and what is left of whole registers; `end` is where it stopped.
template <typename F>
FOVEA_INLINE double lane_sum(int64_t n, int64_t& end, F f) {
  double total = 0;
  end = n - n % kLanes;
  for (int64_t begin = 0; begin < end; begin += kRun) {
    const int64_t last = begin + kRun < end ? begin + kRun : end;
    F32 even = F32::zero(), odd = F32::zero();
    int64_t i = begin;
    for (; i + 2 * kLanes <= last; i += 2 * kLanes) even = even + f(i), odd = odd + f(i + kLanes);
    if (i < last) even = even + f(i);
    total += sum(even + odd);
  }
  return total;
}

void moment_sums(const float* x, int64_t n, NormSums& sums) {
  int64_t i = 0;
  sums.first = lane_sum(n, i, [x](int64_t at) { return F32::load(x + at); });
  for (; i < n; ++i) sums.first += x[i];
  const double mean = sums.first / static_cast<double>(n);
  const F32 middle = F32::all(static_cast<float>(mean));
  sums.second = lane_sum(n, i, [x, middle](int64_t at) {
    const F32 off = F32::load(x + at) - middle;
    return off * off;
  });
  const float centre = static_cast<float>(mean);
  for (; i < n; ++i) sums.second += static_cast<double>(x[i] - centre) * (x[i] - centre);
}

void slope_sums(const float* x, const float* dy, float mean, int64_t n, NormSums& sums) {
  int64_t i = 0;
  sums.first = lane_sum(n, i, [dy](int64_t at) { return F32::load(dy + at); });
  for (; i < n; ++i) sums.first += dy[i];
  const F32 middle = F32::all(mean);
  sums.second =
      lane_sum(n, i, [x, dy, middle](int64_t at) { return F32::load(dy + at) * (F32::load(x + at) - middle); });
  for (; i < n; ++i) sums.second += static_cast<double>(dy[i]) * (x[i] - mean);
}

void move_scale(const float* x, float mean, float factor, float shift, int64_t n, float* y) {
  const F32 middle = F32::all(mean), by = F32::all(factor), to = F32::all(shift);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) mul_add(F32::load(x + i) - middle, by, to).store(y + i);
  const int rest = static_cast<int>(n - i);
  if (rest > 0) mul_add(F32::load_first(x + i, rest) - middle, by, to).store_first(y + i, rest);
}

void norm_backward(const float* x, const float* dy, const NormSlope& slope, int64_t n, bool add, float* dx) {
  const F32 middle = F32::all(slope.mean), by = F32::all(slope.factor), pull = F32::all(slope.pull),
            shift = F32::all(slope.shift);
  const auto of = [=](F32 at, F32 d) { return neg_mul_add(at - middle, pull, d * by - shift); };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F32 d = of(F32::load(x + i), F32::load(dy + i));
    (add ? d + F32::load(dx + i) : d).store(dx + i);
  }
  const int rest = static_cast<int>(n - i);
  if (rest == 0) return;
  const F32 d = of(F32::load_first(x + i, rest), F32::load_first(dy + i, rest));
  (add ? d + F32::load_first(dx + i, rest) : d).store_first(dx + i, rest);
}

}  // namespace
FOVEA_KERNEL(moment_sums)
FOVEA_KERNEL(slope_sums)
FOVEA_KERNEL(move_scale)
FOVEA_KERNEL(norm_backward)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
