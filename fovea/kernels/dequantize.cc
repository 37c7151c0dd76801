// From blocks to floats, in the order of operations of ggml's reference: d * (q - zero), or
// d * q + m, or (d * scale) * q - (dmin * min).
#include "fovea/kernels/blocks.h"
#include "fovea/kernels/matmul.h"
#include "fovea/kernels/pack.h"

namespace fovea::kernels {
namespace FOVEA_ISA_NS {
namespace {

template <void (*Read)(const uint8_t*, int64_t, Codes&), int kZero>
void blocks_of(const void* blocks, int64_t n, float* out) {
  Codes c;
  for (int64_t b = 0; b < n / 32; ++b) {
    Read(static_cast<const uint8_t*>(blocks), b, c);
    for (int i = 0; i < 32; ++i) out[b * 32 + i] = c.scale[i / 16] * static_cast<float>(c.code[i] - kZero) + c.offset;
  }
}

void dequantize(DType dtype, const void* blocks, int64_t n, float* out) {
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
    case DType::kQ4_0: blocks_of<read_q4_0, 8>(blocks, n, out); break;
    case DType::kQ4_1: blocks_of<read_q4_1, 0>(blocks, n, out); break;
    case DType::kQ5_0: blocks_of<read_q5_0, 16>(blocks, n, out); break;
    case DType::kQ5_1: blocks_of<read_q5_1, 0>(blocks, n, out); break;
    case DType::kQ8_0: blocks_of<read_q8_0, 128>(blocks, n, out); break;
    case DType::kQ4_K: blocks_of<read_q4_k, 0>(blocks, n, out); break;
    case DType::kQ5_K: blocks_of<read_q5_k, 0>(blocks, n, out); break;
    case DType::kQ6_K: blocks_of<read_q6_k, 32>(blocks, n, out); break;
    default: break;  // refused when the file was read
  }
}

}  // namespace
FOVEA_KERNEL(dequantize)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
