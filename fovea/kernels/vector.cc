#include "fovea/kernels/vector.h"

#include "fovea/kernels/f32.h"

namespace fovea::kernels {
namespace FOVEA_ISA_NS {
namespace {

constexpr int kLanes = F32::kLanes;
constexpr float kInfinity = __builtin_inff();

// y[i] = f(x[i]) in whole registers, then the rest.
template <typename F>
FOVEA_INLINE void map1(const float* x, int64_t n, float* y, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(F32::load(x + i)).store(y + i);
  const int rest = static_cast<int>(n - i);
  if (rest > 0) f(F32::load_first(x + i, rest)).store_first(y + i, rest);
}

template <typename F>
FOVEA_INLINE void map2(const float* a, const float* b, int64_t n, float* y, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(F32::load(a + i), F32::load(b + i)).store(y + i);
  const int rest = static_cast<int>(n - i);
  if (rest > 0) f(F32::load_first(a + i, rest), F32::load_first(b + i, rest)).store_first(y + i, rest);
}

// Four running sums, since one addition waits for the one before.
float dot(const float* a, const float* b, int64_t n) {
  F32 sums[4] = {F32::zero(), F32::zero(), F32::zero(), F32::zero()};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    FOVEA_UNROLL
    for (int k = 0; k < 4; ++k) {
      sums[k] = mul_add(F32::load(a + i + k * kLanes), F32::load(b + i + k * kLanes), sums[k]);
    }
  }
  for (; i + kLanes <= n; i += kLanes) sums[0] = mul_add(F32::load(a + i), F32::load(b + i), sums[0]);
  const int rest = static_cast<int>(n - i);
  if (rest > 0) sums[1] = mul_add(F32::load_first(a + i, rest), F32::load_first(b + i, rest), sums[1]);
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

float rms_inv_scale(const float* x, float eps, int64_t n) {
  return __builtin_sqrtf(dot(x, x, n) / static_cast<float>(n) + eps);
}

void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* y) {
  if (n == 0) return;
  const F32 by = F32::all(1.0f / rms_inv_scale(x, eps, n));
  if (weight) {
    map2(x, weight, n, y, [by](F32 v, F32 w) { return v * by * w; });
  } else {
    map1(x, n, y, [by](F32 v) { return v * by; });
  }
}

void add(const float* a, const float* b, int64_t n, float* y) {
  map2(a, b, n, y, [](F32 u, F32 v) { return u + v; });
}

void mul(const float* a, const float* b, int64_t n, float* y) {
  map2(a, b, n, y, [](F32 u, F32 v) { return u * v; });
}

void scale(int64_t n, float a, const float* x, float* y) {
  const F32 by = F32::all(a);
  map1(x, n, y, [by](F32 v) { return by * v; });
}

void axpy(int64_t n, float a, const float* x, float* y) {
  const F32 by = F32::all(a);
  map2(x, y, n, y, [by](F32 u, F32 v) { return mul_add(by, u, v); });
}

FOVEA_INLINE F32 silu_of(F32 x) { return x / (F32::all(1.0f) + exp(F32::zero() - x)); }

void exp_all(const float* x, int64_t n, float* y) {
  map1(x, n, y, [](F32 v) { return exp(v); });
}

void silu(const float* x, int64_t n, float* y) {
  map1(x, n, y, [](F32 v) { return silu_of(v); });
}

void swiglu(const float* gate, const float* up, int64_t n, float* y) {
  map2(gate, up, n, y, [](F32 g, F32 u) { return silu_of(g) * u; });
}

// NaN never counts; -inf if there is nothing else.
float largest(const float* x, int64_t n) {
  F32 best = F32::all(-kInfinity);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) best = max(F32::load(x + i), best);
  float result = max_lane(best);
  for (; i < n; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

void softmax(const float* x, int64_t n, float* y) {
  const float top = largest(x, n);
  const F32 shift = F32::all(top == -kInfinity ? 0.0f : top);  // -inf - -inf would be NaN
  F32 total = F32::zero();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F32 e = exp(F32::load(x + i) - shift);
    total = total + e;
    e.store(y + i);
  }
  const int rest = static_cast<int>(n - i);
  float last[kLanes] = {};
  exp(F32::load_first(x + i, rest) - shift).store_first(last, rest);
  const F32 tail = F32::load(last);
  tail.store_first(y + i, rest);
  const float whole = sum(total + tail);
  if (whole != 0.0f) scale(n, 1.0f / whole, y, y);
}

float log_sum_exp(const float* x, int64_t n) {
  const float top = largest(x, n);
  const F32 shift = F32::all(top == -kInfinity || top == kInfinity ? 0.0f : top);
  F32 total = F32::zero();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) total = total + exp(F32::load(x + i) - shift);
  const int rest = static_cast<int>(n - i);
  float last[kLanes] = {};
  exp(F32::load_first(x + i, rest) - shift).store_first(last, rest);
  const float whole = sum(total + F32::load(last));
  return (top == -kInfinity || top == kInfinity ? 0.0f : top) + __builtin_logf(whole);
}

int64_t argmax(const float* x, int64_t n) {
  const float top = largest(x, n);
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] == top) return i;
  }
  return 0;
}

uint64_t count_bits(const uint32_t* words, int64_t n) {
  uint64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += static_cast<uint64_t>(__builtin_popcount(words[i]));
  return count;
}

FOVEA_INLINE void turn(F32& a, F32& b, F32 c, F32 s) {
  const F32 turned = neg_mul_add(b, s, a * c);
  b = mul_add(b, c, a * s);
  a = turned;
}

void rope_rotate(const float* x, const float* cos, const float* sin, int64_t n_pairs, bool adjacent, float* y) {
  int64_t i = 0;
  for (; i + kLanes <= n_pairs; i += kLanes) {
    const F32 c = F32::load(cos + i), s = F32::load(sin + i);
    F32 a, b;
    if (adjacent) {
      load_pairs(x + 2 * i, a, b);
      turn(a, b, c, s);
      store_pairs(a, b, y + 2 * i);
    } else {
      a = F32::load(x + i);
      b = F32::load(x + i + n_pairs);
      turn(a, b, c, s);
      a.store(y + i);
      b.store(y + i + n_pairs);
    }
  }
  for (; i < n_pairs; ++i) {
    const int64_t at_a = adjacent ? 2 * i : i;
    const int64_t at_b = adjacent ? 2 * i + 1 : i + n_pairs;
    const float a = x[at_a], b = x[at_b];
    y[at_a] = a * cos[i] - b * sin[i];
    y[at_b] = a * sin[i] + b * cos[i];
  }
}

}  // namespace
FOVEA_KERNEL(rms_norm)
FOVEA_KERNEL(rms_inv_scale)
FOVEA_KERNEL(add)
FOVEA_KERNEL(mul)
FOVEA_KERNEL(scale)
FOVEA_KERNEL(axpy)
FOVEA_KERNEL(dot)
FOVEA_KERNEL(exp_all)
FOVEA_KERNEL(silu)
FOVEA_KERNEL(swiglu)
FOVEA_KERNEL(softmax)
FOVEA_KERNEL(log_sum_exp)
FOVEA_KERNEL(argmax)
FOVEA_KERNEL(count_bits)
FOVEA_KERNEL(rope_rotate)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
