// silu(x) = x / (1 + e^-x), for kernel files only: in registers, where it follows what makes x.
#pragma once

#include "fovea/kernels/f32.h"

namespace fovea::kernels::FOVEA_ISA_NS {

FOVEA_INLINE F32 silu(F32 x) { return x / (F32::all(1.0f) + exp(F32::zero() - x)); }

}  // namespace fovea::kernels::FOVEA_ISA_NS
