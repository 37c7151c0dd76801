#include "fovea/kernels/peak.h"

#include "fovea/kernels/f32.h"

namespace fovea::kernels {
namespace FOVEA_ISA_NS {
namespace {

int64_t fma_peak(int64_t rounds) {
  constexpr int kChains = 12;  // latency 4 (5 on some) times two units
  F32 sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = F32::all(static_cast<float>(i));
  F32 a = F32::all(0.999f), b = F32::all(0.001f);
  for (int64_t round = 0; round < rounds; ++round) {
    FOVEA_UNROLL
    for (int i = 0; i < kChains; ++i) sums[i] = mul_add(sums[i], a, b);
  }
  F32 all = F32::zero();
  for (int i = 0; i < kChains; ++i) all = all + sums[i];
  // The result must be used, or the loop goes.
  return rounds * kChains * F32::kLanes * 2 + (sum(all) == 12345.0f ? 1 : 0);
}

}  // namespace
FOVEA_KERNEL(fma_peak)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
