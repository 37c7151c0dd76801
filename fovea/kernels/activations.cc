#include "fovea/kernels/activations.h"

#include "fovea/kernels/gelu.h"
#include "fovea/kernels/silu.h"

namespace fovea::kernels {
namespace FOVEA_ISA_NS {
namespace {

constexpr int kLanes = F32::kLanes;

FOVEA_INLINE F32 minus(F32 x) { return F32::zero() - x; }
FOVEA_INLINE F32 one() { return F32::all(1.0f); }

struct Silu {
  FOVEA_INLINE F32 operator()(F32 x) const { return silu(x); }
};

// 0.5 (1 + tanh(u)) = 1 / (1 + e^-2u)
struct GeluTanh {
  FOVEA_INLINE F32 operator()(F32 x) const {
    constexpr float kTwoRoot = 1.5957691216f;  // 2 sqrt(2 / pi)
    const F32 inner = x * mul_add(x * x, F32::all(kTwoRoot * 0.044715f), F32::all(kTwoRoot));
    return x / (one() + exp(minus(inner)));
  }
};

struct Gelu {
  FOVEA_INLINE F32 operator()(F32 x) const {
    F32 bell;
    return x * normal_share(x, bell);
  }
};

struct Relu {
  FOVEA_INLINE F32 operator()(F32 x) const { return max(F32::zero(), x); }
};

// NaN goes through as the second operand of min and max.
struct ClampedSwiglu {
  FOVEA_INLINE F32 operator()(F32 x) const {
    const F32 low = min(F32::all(kSwigluLimit), x);
    return low / (one() + exp(minus(low * F32::all(kSwigluAlpha))));
  }
};

template <typename F>
FOVEA_INLINE void alone(const float* x, int64_t n, float* y, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(F32::load(x + i)).store(y + i);
  const int rest = static_cast<int>(n - i);
  if (rest > 0) f(F32::load_first(x + i, rest)).store_first(y + i, rest);
}

template <typename F>
FOVEA_INLINE void gated(const float* gate, const float* up, int64_t n, float* y, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) (f(F32::load(gate + i)) * F32::load(up + i)).store(y + i);
  const int rest = static_cast<int>(n - i);
  if (rest > 0) (f(F32::load_first(gate + i, rest)) * F32::load_first(up + i, rest)).store_first(y + i, rest);
}

FOVEA_INLINE F32 clamped_up(F32 up) { return max(F32::all(-kSwigluLimit), min(F32::all(kSwigluLimit), up)) + one(); }

void clamped_swiglu(const float* gate, const float* up, int64_t n, float* y) {
  const ClampedSwiglu act;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) (act(F32::load(gate + i)) * clamped_up(F32::load(up + i))).store(y + i);
  const int rest = static_cast<int>(n - i);
  if (rest == 0) return;
  (act(F32::load_first(gate + i, rest)) * clamped_up(F32::load_first(up + i, rest))).store_first(y + i, rest);
}

void activate(Activation act, const float* x, int64_t n, float* y) {
  switch (act) {
    case Activation::kSilu: return alone(x, n, y, Silu{});
    case Activation::kGelu: return alone(x, n, y, Gelu{});
    case Activation::kGeluTanh: return alone(x, n, y, GeluTanh{});
    case Activation::kRelu: return alone(x, n, y, Relu{});
    case Activation::kClampedSwiglu: return alone(x, n, y, ClampedSwiglu{});
  }
}

void activate_gate(Activation act, const float* gate, const float* up, int64_t n, float* y) {
  switch (act) {
    case Activation::kSilu: return gated(gate, up, n, y, Silu{});
    case Activation::kGelu: return gated(gate, up, n, y, Gelu{});
    case Activation::kGeluTanh: return gated(gate, up, n, y, GeluTanh{});
    case Activation::kRelu: return gated(gate, up, n, y, Relu{});
    case Activation::kClampedSwiglu: return clamped_swiglu(gate, up, n, y);
  }
}

void center(const float* x, int64_t n, float* y) {
  F32 sums[2] = {F32::zero(), F32::zero()};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    sums[0] = sums[0] + F32::load(x + i);
    sums[1] = sums[1] + F32::load(x + i + kLanes);
  }
  if (i + kLanes <= n) {
    sums[0] = sums[0] + F32::load(x + i);
    i += kLanes;
  }
  if (i < n) sums[1] = sums[1] + F32::load_first(x + i, static_cast<int>(n - i));
  const F32 mean = F32::all(sum(sums[0] + sums[1]) / static_cast<float>(n));
  alone(x, n, y, [mean](F32 v) { return v - mean; });
}

}  // namespace
FOVEA_KERNEL(activate)
FOVEA_KERNEL(activate_gate)
FOVEA_KERNEL(center)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
