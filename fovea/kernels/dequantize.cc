// From blocks to floats, in the order of operations of ggml's reference: d * (q - zero), or
// d * q + m, or (d * scale) * q - (dmin * min).
#include "fovea/kernels/matmul.h"
#include "fovea/kernels/pack.h"
#include "fovea/kernels/rare_blocks.h"

namespace fovea::kernels {
namespace FOVEA_ISA_NS {
namespace {

template <void (*Read)(const uint8_t*, int64_t, Codes&), int kZero, bool kOffset = false>
void blocks_of(const void* blocks, int64_t n, float* out) {
  Codes c;
  for (int64_t b = 0; b < n / 32; ++b) {
    Read(static_cast<const uint8_t*>(blocks), b, c);
    for (int i = 0; i < 32; ++i) {
      const float w = c.scale[i / 16] * static_cast<float>(c.code[i] - kZero);
      out[b * 32 + i] = kOffset ? w + c.offset[i / 16] : w;  // adding 0 would lose the sign of a zero
    }
  }
}

template <typename T>
void numbers(const void* blocks, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    T value;
    std::memcpy(&value, static_cast<const uint8_t*>(blocks) + i * static_cast<int64_t>(sizeof value), sizeof value);
    out[i] = static_cast<float>(value);
  }
}

void dequantize(DType dtype, const void* blocks, int64_t n, float* out) {
  if (n == 0) return;  // and then there may be nothing to point to
  switch (dtype) {
    case DType::kF32: std::memcpy(out, blocks, static_cast<size_t>(n) * 4); break;
    case DType::kF16:
      for (int64_t i = 0; i < n; ++i) out[i] = load_half(static_cast<const uint8_t*>(blocks) + 2 * i);
      break;
    case DType::kBF16:
      for (int64_t i = 0; i < n; ++i) {
        uint16_t half;
        std::memcpy(&half, static_cast<const uint8_t*>(blocks) + 2 * i, 2);
        const uint32_t bits = static_cast<uint32_t>(half) << 16;
        std::memcpy(out + i, &bits, 4);
      }
      break;
    case DType::kF64: numbers<double>(blocks, n, out); break;
    case DType::kI8: numbers<int8_t>(blocks, n, out); break;
    case DType::kI16: numbers<int16_t>(blocks, n, out); break;
    case DType::kI32: numbers<int32_t>(blocks, n, out); break;
    case DType::kI64: numbers<int64_t>(blocks, n, out); break;
    case DType::kQ4_0: blocks_of<read_q4_0, 8>(blocks, n, out); break;
    case DType::kQ4_1: blocks_of<read_q4_1, 0, true>(blocks, n, out); break;
    case DType::kQ5_0: blocks_of<read_q5_0, 16>(blocks, n, out); break;
    case DType::kQ5_1: blocks_of<read_q5_1, 0, true>(blocks, n, out); break;
    case DType::kQ8_0: blocks_of<read_q8_0, 128>(blocks, n, out); break;
    case DType::kQ2_K: blocks_of<read_q2_k, 0, true>(blocks, n, out); break;
    case DType::kQ3_K: blocks_of<read_q3_k, 4>(blocks, n, out); break;
    case DType::kQ4_K: blocks_of<read_q4_k, 0, true>(blocks, n, out); break;
    case DType::kQ5_K: blocks_of<read_q5_k, 0, true>(blocks, n, out); break;
    case DType::kQ6_K: blocks_of<read_q6_k, 32>(blocks, n, out); break;
    case DType::kIQ4_NL: blocks_of<read_iq4_nl, 128>(blocks, n, out); break;
    case DType::kIQ4_XS: blocks_of<read_iq4_xs, 128>(blocks, n, out); break;
    case DType::kMXFP4: blocks_of<read_mxfp4, 16>(blocks, n, out); break;
    case DType::kIQ2_XXS: blocks_of<read_iq2_xxs, 128>(blocks, n, out); break;
    case DType::kIQ2_XS: blocks_of<read_iq2_xs, 128>(blocks, n, out); break;
    case DType::kIQ2_S: blocks_of<read_iq2_s, 128>(blocks, n, out); break;
    case DType::kIQ3_XXS: blocks_of<read_iq3_xxs, 128>(blocks, n, out); break;
    case DType::kIQ3_S: blocks_of<read_iq3_s, 128>(blocks, n, out); break;
    case DType::kIQ1_S: blocks_of<read_iq1_s, 128>(blocks, n, out); break;
    case DType::kIQ1_M: blocks_of<read_iq1_m, 128>(blocks, n, out); break;
    case DType::kTQ1_0: blocks_of<read_tq1_0, 128>(blocks, n, out); break;
    case DType::kTQ2_0: blocks_of<read_tq2_0, 128>(blocks, n, out); break;
    case DType::kNVFP4: blocks_of<read_nvfp4, 128>(blocks, n, out); break;
    default: break;  // refused when the file was read
  }
}

}  // namespace
FOVEA_KERNEL(dequantize)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
