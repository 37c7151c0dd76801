#include "fovea/tensor/ops/stand_in.h"

#include <bit>
#include <cstddef>
#include <cstring>

#include "fovea/base/check.h"
#include "fovea/kernels/vector.h"

namespace fovea::tensor::stand_in {
namespace {

using kernels::DType;

uint16_t load16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

float half(const uint8_t* p) {
  const uint32_t bits = load16(p), sign = (bits & 0x8000) << 16, exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | mantissa << 13);
  if (exponent > 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  const float tiny = static_cast<float>(mantissa) * 0x1p-24f;
  return sign ? -tiny : tiny;
}

// 32 codes of 4 bits (low nibbles first), with a fifth bit each from `high`.
void nibbles(const uint8_t* codes, uint32_t high, float* out) {
  for (int i = 0; i < 16; ++i) {
    out[i] = static_cast<float>((codes[i] & 15) | (high >> i & 1) << 4);
    out[i + 16] = static_cast<float>(codes[i] >> 4 | (high >> (i + 16) & 1) << 4);
  }
}

uint32_t load32(const uint8_t* p) { return load16(p) | static_cast<uint32_t>(load16(p + 2)) << 16; }

// Scale and minimum j of the eight of a Q4_K or Q5_K block, 6 bits each in 12 bytes.
void scale_and_min(const uint8_t* p, int j, uint8_t& scale, uint8_t& min) {
  if (j < 4) {
    scale = p[j] & 63;
    min = p[j + 4] & 63;
  } else {
    scale = static_cast<uint8_t>((p[j + 4] & 15) | (p[j - 4] >> 6) << 4);
    min = static_cast<uint8_t>(p[j + 4] >> 4 | (p[j] >> 6) << 4);
  }
}

void k_block(const uint8_t* p, bool five_bits, float* out) {
  const float d = half(p), d_min = half(p + 2);
  const uint8_t *scales = p + 4, *high = p + 16, *codes = five_bits ? p + 48 : p + 16;
  for (int j = 0; j < 8; ++j) {
    uint8_t scale, min;
    scale_and_min(scales, j, scale, min);
    const float by = d * static_cast<float>(scale), less = d_min * static_cast<float>(min);
    for (int i = 0; i < 32; ++i) {
      int code = codes[j / 2 * 32 + i] >> (j % 2 * 4) & 15;
      if (five_bits) code |= (high[i] >> j & 1) << 4;
      out[j * 32 + i] = by * static_cast<float>(code) - less;
    }
  }
}

void q6_block(const uint8_t* p, float* out) {
  const uint8_t *low = p, *high = p + 128;
  const auto* scales = reinterpret_cast<const int8_t*>(p + 192);
  const float d = half(p + 208);
  for (int i = 0; i < 256; ++i) {
    const int part = i / 128, in = i % 128, quarter = in / 32, lane = in % 32;
    const int l = low[part * 64 + in % 64] >> (in / 64 * 4) & 15;
    const int h = high[part * 32 + lane] >> (quarter * 2) & 3;
    out[i] = d * static_cast<float>(scales[i / 16]) * static_cast<float>((l | h << 4) - 32);
  }
}

void one_block(DType dtype, const uint8_t* p, float* out) {
  // An offset of -0 changes nothing, not even the sign of a zero.
  const auto map = [&](float scale, float offset, float bias) {
    for (int i = 0; i < 32; ++i) out[i] = (out[i] - bias) * scale + offset;
  };
  switch (dtype) {
    case DType::kF32: std::memcpy(out, p, sizeof(float)); return;
    case DType::kF16: *out = half(p); return;
    case DType::kBF16: *out = std::bit_cast<float>(static_cast<uint32_t>(load16(p)) << 16); return;
    case DType::kQ4_0: nibbles(p + 2, 0, out); return map(half(p), -0.0f, 8);
    case DType::kQ4_1: nibbles(p + 4, 0, out); return map(half(p), half(p + 2), 0);
    case DType::kQ5_0: nibbles(p + 6, load32(p + 2), out); return map(half(p), -0.0f, 16);
    case DType::kQ5_1: nibbles(p + 8, load32(p + 4), out); return map(half(p), half(p + 2), 0);
    case DType::kQ8_0:
      for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<int8_t>(p[2 + i])) * half(p);
      return;
    case DType::kQ4_K: return k_block(p, false, out);
    case DType::kQ5_K: return k_block(p, true, out);
    case DType::kQ6_K: return q6_block(p, out);
    default: FOVEA_CHECK(false, "{} is not a native dtype", kernels::dtype_info(dtype).name);
  }
}

}  // namespace

void dequantize(DType dtype, const void* blocks, int64_t n, float* out) {
  if (dtype == DType::kF32) {
    std::memcpy(out, blocks, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  const kernels::DTypeInfo& info = kernels::dtype_info(dtype);
  const auto* p = static_cast<const uint8_t*>(blocks);
  for (int64_t i = 0; i < n; i += info.block_elements, p += info.block_bytes) one_block(dtype, p, out + i);
}

void matmul(const kernels::MatmulArgs& args) {
  const int64_t cols = args.w.cols;
  const auto* bytes = static_cast<const std::byte*>(args.w.data);
  const uint64_t stride = kernels::row_bytes(args.w.dtype, cols);
  float* row = static_cast<float*>(args.scratch);
  for (int64_t r = args.row_begin; r < args.row_end; ++r) {
    dequantize(args.w.dtype, bytes + static_cast<uint64_t>(r) * stride, cols, row);
    for (int64_t t = args.token_begin; t < args.token_end; ++t) {
      const float sum = kernels::dot(args.x + t * args.ld_x, row, cols);
      args.y[t * args.ld_y + r] = args.bias ? sum + args.bias[r] : sum;
    }
  }
}

}  // namespace fovea::tensor::stand_in
