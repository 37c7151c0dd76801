// The normal distribution, for kernel files only: gelu(x) = x Phi(x), gelu'(x) = Phi(x) + x phi(x).
#pragma once

#include "fovea/kernels/f32.h"

namespace fovea::kernels::FOVEA_ISA_NS {

// Phi(x) by its upper tail, Abramowitz & Stegun 7.1.26: half of erfc(|x| / sqrt(2)). `bell` becomes e^(-x^2 / 2).
FOVEA_INLINE F32 normal_share(F32 x, F32& bell) {
  const F32 one = F32::all(1.0f);
  const F32 z = max(x, F32::zero() - x) * F32::all(0.70710678f);
  const F32 t = one / mul_add(z, F32::all(0.3275911f), one);
  F32 p = F32::all(0.5f * 1.061405429f);
  p = mul_add(p, t, F32::all(0.5f * -1.453152027f));
  p = mul_add(p, t, F32::all(0.5f * 1.421413741f));
  p = mul_add(p, t, F32::all(0.5f * -0.284496736f));
  p = mul_add(p, t, F32::all(0.5f * 0.254829592f));
  bell = exp(F32::zero() - z * z);
  const F32 tail = p * t * bell;
  return select(not_less(x, F32::zero()), one - tail, tail);
}

}  // namespace fovea::kernels::FOVEA_ISA_NS
