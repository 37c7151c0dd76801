// Activations to int8 per block of 32 columns: q = round(x * 127 / max|x|).
#include <cmath>
#include <cstring>

#include "fovea/kernels/matmul.h"
#include "fovea/kernels/pack.h"

namespace fovea::kernels {
namespace FOVEA_ISA_NS {
namespace {

void quantize_activations(const float* x, int64_t ld_x, int64_t n_tokens, int64_t cols, int64_t token_begin,
                          int64_t token_end, void* out) {
  const int64_t ld_q = (cols + 63) / 64 * 64, n_blocks = cols / 32;
  auto* q_all = static_cast<int8_t*>(out);
  auto* meta_all = reinterpret_cast<BlockMeta*>(q_all + n_tokens * ld_q);
  for (int64_t t = token_begin; t < token_end; ++t) {
    for (int64_t b = 0; b < n_blocks; ++b) {
      const float* from = x + t * ld_x + b * 32;
      int8_t* q = q_all + t * ld_q + b * 32;
      float most = 0;
      int odd = 0;
      for (int i = 0; i < 32; ++i) {
        const float a = std::fabs(from[i]);
        most = a > most ? a : most;
        odd |= !(a <= 3.402823466e38f);  // NaN or Inf must reach the result
      }
      const float inverse = most > 0 && !odd ? 127.0f / most : 0.0f;
      int sums[2] = {0, 0};
      int32_t whole[32];
      for (int i = 0; i < 32; ++i) {
        const float shifted = (odd ? 0.0f : from[i]) * inverse + 0x1.8p23f;  // rounds to nearest even
        int32_t bits;
        std::memcpy(&bits, &shifted, 4);
        whole[i] = bits - 0x4B400000;
      }
      for (int i = 0; i < 32; ++i) q[i] = static_cast<int8_t>(whole[i]);
      for (int i = 0; i < 16; ++i) sums[0] += whole[i], sums[1] += whole[i + 16];
      const float scale = odd ? NAN : most * (1.0f / 127.0f);
      meta_all[t * n_blocks + b] = {scale, scale * static_cast<float>(sums[0] + sums[1]), -(sums[0] + sums[1]), -sums[0]};
    }
  }
}

}  // namespace
FOVEA_KERNEL(quantize_activations)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
