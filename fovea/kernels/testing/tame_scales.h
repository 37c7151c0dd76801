// Random bytes as blocks of a type of GGUF: their scales become 2^-7, and their offsets -2^-6, so that no weight is
// huge, tiny or no number. For tests and benchmarks.
#pragma once

#include <cstdint>
#include <cstring>

#include "fovea/kernels/dtype.h"

namespace fovea::kernels {

// `blocks`: whole blocks of a quantised type, n_bytes in all.
inline void tame_scales(DType dtype, uint8_t* blocks, size_t n_bytes) {
  constexpr uint16_t kScale = 0x2000, kOffset = 0xa400;
  const auto size = static_cast<size_t>(dtype_info(dtype).block_bytes);
  int scale_at = 0, offset_at = -1;
  switch (dtype) {
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K: offset_at = 2; break;
    case DType::kQ2_K: scale_at = 80, offset_at = 82; break;
    case DType::kQ3_K: scale_at = 108; break;
    case DType::kQ6_K: scale_at = 208; break;
    case DType::kTQ1_0: scale_at = 52; break;
    case DType::kTQ2_0: scale_at = 64; break;
    case DType::kMXFP4:
    case DType::kNVFP4:
    case DType::kIQ1_M: scale_at = -1; break;
    default: break;
  }
  for (size_t at = 0; at + size <= n_bytes; at += size) {
    uint8_t* block = blocks + at;
    if (scale_at >= 0) std::memcpy(block + scale_at, &kScale, 2);
    if (offset_at >= 0) std::memcpy(block + offset_at, &kOffset, 2);
    if (dtype == DType::kMXFP4) block[0] = 120;
    if (dtype == DType::kNVFP4) std::memset(block, 0x10, 4);
    if (dtype == DType::kIQ1_M) {  // the half float's nibbles are the top ones of four words
      for (int word = 0; word < 4; ++word) {
        uint8_t& high = block[49 + 2 * word];
        high = static_cast<uint8_t>((high & 0xf) | (kScale >> 4 * word & 0xf) << 4);
      }
    }
  }
}

}  // namespace fovea::kernels
