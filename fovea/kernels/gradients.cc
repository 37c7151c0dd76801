#include "fovea/kernels/gradients.h"

#include "fovea/kernels/gelu.h"

namespace fovea::kernels {
namespace FOVEA_ISA_NS {
namespace {

constexpr int kLanes = F32::kLanes;

// f(i, count) for whole registers, then for the rest.
template <typename F>
FOVEA_INLINE void for_vectors(int64_t begin, int64_t end, F f) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) f(i, kLanes);
  if (i < end) f(i, static_cast<int>(end - i));
}
FOVEA_INLINE F32 load(const float* p, int n) { return n == kLanes ? F32::load(p) : F32::load_first(p, n); }
FOVEA_INLINE void put(F32 x, bool add, float* p, int n) {
  if (add) x = x + load(p, n);
  n == kLanes ? x.store(p) : x.store_first(p, n);
}

FOVEA_INLINE F32 sigmoid(F32 x) { return F32::all(1.0f) / (F32::all(1.0f) + exp(F32::zero() - x)); }
FOVEA_INLINE F32 silu_slope(F32 x, F32 s) { return s * mul_add(x, F32::all(1.0f) - s, F32::all(1.0f)); }

void silu_backward(const float* x, const float* dy, int64_t n, bool add, float* dx) {
  for_vectors(0, n, [=](int64_t i, int lanes) {
    const F32 v = load(x + i, lanes);
    put(silu_slope(v, sigmoid(v)) * load(dy + i, lanes), add, dx + i, lanes);
  });
}

void gelu_backward(const float* x, const float* dy, int64_t n, bool by_tanh, bool add, float* dx) {
  if (!by_tanh) {
    const F32 peak = F32::all(0.39894228f);  // 1 / sqrt(2 pi)
    return for_vectors(0, n, [=](int64_t i, int lanes) {
      const F32 v = load(x + i, lanes);
      F32 bell;
      const F32 share = normal_share(v, bell);
      put(mul_add(v * peak, bell, share) * load(dy + i, lanes), add, dx + i, lanes);
    });
  }
  // x s(u) with u = 2 sqrt(2 / pi) (x + c x^3): s + x s (1 - s) u'
  constexpr float kTwoRoot = 1.5957691216f, kCubic = kTwoRoot * 0.044715f;
  for_vectors(0, n, [=](int64_t i, int lanes) {
    const F32 v = load(x + i, lanes), square = v * v;
    const F32 s = sigmoid(v * mul_add(square, F32::all(kCubic), F32::all(kTwoRoot)));
    const F32 slope = mul_add(square, F32::all(3 * kCubic), F32::all(kTwoRoot));
    put(mul_add(v * slope, s * (F32::all(1.0f) - s), s) * load(dy + i, lanes), add, dx + i, lanes);
  });
}

void swiglu_backward(const SwigluBackward& g, int64_t begin, int64_t end) {
  for_vectors(begin, end, [&g](int64_t i, int lanes) {
    const F32 x = load(g.gate + i, lanes), dy = load(g.dy + i, lanes), s = sigmoid(x);
    if (g.dgate) put(silu_slope(x, s) * load(g.up + i, lanes) * dy, g.add_gate, g.dgate + i, lanes);
    if (g.dup) put(x * s * dy, g.add_up, g.dup + i, lanes);
  });
}

float exp_sum(const float* x, int64_t n, float* top) {
  constexpr float kInfinity = __builtin_inff();
  F32 best = F32::all(-kInfinity);  // NaN, as the first operand, never counts
  int64_t from = 0;
  for (; from + kLanes <= n; from += kLanes) best = max(F32::load(x + from), best);
  float most = max_lane(best);
  for (; from < n; ++from) most = x[from] > most ? x[from] : most;
  *top = most;
  const F32 shift = F32::all(most == -kInfinity || most == kInfinity ? 0.0f : most);
  F32 total = F32::zero();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) total = total + exp(F32::load(x + i) - shift);
  float last[kLanes] = {};
  const int rest = static_cast<int>(n - i);
  exp(F32::load_first(x + i, rest) - shift).store_first(last, rest);
  return sum(total + F32::load(last));
}

void exp_scaled(const float* x, int64_t n, float top, float factor, bool add, float* y) {
  const F32 shift = F32::all(top), by = F32::all(factor);
  for_vectors(0, n, [=](int64_t i, int lanes) { put(exp(load(x + i, lanes) - shift) * by, add, y + i, lanes); });
}

void rms_norm_backward(const float* x, const float* weight, const float* dy, float scale, int64_t n, bool add,
                       float* dx) {
  const F32 one = F32::all(1.0f);
  F32 sums[2] = {F32::zero(), F32::zero()};
  for_vectors(0, n, [&](int64_t i, int lanes) {
    const F32 g = load(dy + i, lanes) * (weight ? load(weight + i, lanes) : one);
    F32& total = sums[i / kLanes % 2];
    total = mul_add(g, load(x + i, lanes), total);
  });
  const float inverse = 1.0f / scale;
  const float mean = sum(sums[0] + sums[1]) / static_cast<float>(n);
  const F32 by = F32::all(inverse), pull = F32::all(mean * inverse * inverse * inverse);
  for_vectors(0, n, [&](int64_t i, int lanes) {
    const F32 g = load(dy + i, lanes) * (weight ? load(weight + i, lanes) : one);
    put(neg_mul_add(load(x + i, lanes), pull, g * by), add, dx + i, lanes);
  });
}

void layer_norm_backward(const float* unit, const float* weight, const float* dy, float scale, int64_t n, bool add,
                         float* dx) {
  const F32 one = F32::all(1.0f);
  F32 total = F32::zero(), dots = F32::zero();
  for_vectors(0, n, [&](int64_t i, int lanes) {
    const F32 g = load(dy + i, lanes) * (weight ? load(weight + i, lanes) : one);
    total = total + g;
    dots = mul_add(g, load(unit + i, lanes), dots);
  });
  const F32 mean = F32::all(sum(total) / static_cast<float>(n)), pull = F32::all(sum(dots) / static_cast<float>(n));
  const F32 by = F32::all(scale);
  for_vectors(0, n, [&](int64_t i, int lanes) {
    const F32 g = load(dy + i, lanes) * (weight ? load(weight + i, lanes) : one);
    put(neg_mul_add(load(unit + i, lanes), pull, g - mean) * by, add, dx + i, lanes);
  });
}

void add_product(const float* a, const float* b, int64_t n, float* y) {
  for_vectors(0, n, [=](int64_t i, int lanes) {
    const F32 product = mul_add(load(a + i, lanes), load(b + i, lanes), load(y + i, lanes));
    put(product, false, y + i, lanes);
  });
}

}  // namespace
FOVEA_KERNEL(silu_backward)
FOVEA_KERNEL(gelu_backward)
FOVEA_KERNEL(swiglu_backward)
FOVEA_KERNEL(exp_sum)
FOVEA_KERNEL(exp_scaled)
FOVEA_KERNEL(rms_norm_backward)
FOVEA_KERNEL(layer_norm_backward)
FOVEA_KERNEL(add_product)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
