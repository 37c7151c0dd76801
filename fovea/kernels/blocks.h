// The ggml block formats, read one element group at a time; private to kernels. Facts of the format:
// ggml's documentation of GGUF quantisation types.
#pragma once

#include <cstdint>
#include <cstring>

namespace fovea::kernels::FOVEA_ISA_NS {
namespace {

inline float half_to_float(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t exponent = half >> 10 & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  float value;
  uint32_t bits;
  if (exponent == 0) {
    value = static_cast<float>(mantissa) * 0x1p-24f;
    std::memcpy(&bits, &value, 4);
  } else {
    bits = exponent == 31 ? 0x7f800000u | mantissa << 13 : (exponent + 112) << 23 | mantissa << 13;
  }
  bits |= sign;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline float load_half(const uint8_t* p) {
  uint16_t half;
  std::memcpy(&half, p, 2);
  return half_to_float(half);
}

inline uint32_t load_u32(const uint8_t* p) {
  uint32_t bits;
  std::memcpy(&bits, p, 4);
  return bits;
}

// Scale and minimum of sub-block j (of 8) of a Q4_K or Q5_K block: 6 bits each in 12 bytes.
inline void k_scale_min(const uint8_t* q, int j, uint8_t& scale, uint8_t& min) {
  if (j < 4) {
    scale = q[j] & 63, min = q[j + 4] & 63;
  } else {
    scale = static_cast<uint8_t>((q[j + 4] & 0xf) | (q[j - 4] >> 6) << 4);
    min = static_cast<uint8_t>((q[j + 4] >> 4) | (q[j] >> 6) << 4);
  }
}

// 32 columns of one row as unsigned codes: w = scale[i / 16] * (code - zero) + offset. The halves'
// scales differ in Q6_K only; `zero` is in kind_of (pack.h).
struct Codes {
  uint8_t code[32];
  float scale[2];
  float offset;
};

inline void nibbles(const uint8_t* q, uint8_t* code) {
  for (int i = 0; i < 16; ++i) code[i] = q[i] & 0xf, code[i + 16] = q[i] >> 4;
}

// Bit i of `high` is the fifth bit of code i. Eight bits at a time: copies of them in every byte, each cut to its
// own bit, which the addition carries into the top bit.
inline void fifth_bits(uint32_t high, uint8_t* code) {
  for (int i = 0; i < 32; i += 8) {
    uint64_t bits = (high >> i & 0xffu) * 0x0101010101010101u & 0x8040201008040201u, eight;
    bits = (bits + 0x7f7f7f7f7f7f7f7fu) >> 3 & 0x1010101010101010u;
    std::memcpy(&eight, code + i, 8);
    eight |= bits;
    std::memcpy(code + i, &eight, 8);
  }
}

inline void read_q4_0(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b * 18;
  out.scale[0] = out.scale[1] = load_half(p), out.offset = 0;
  nibbles(p + 2, out.code);
}
inline void read_q4_1(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b * 20;
  out.scale[0] = out.scale[1] = load_half(p), out.offset = load_half(p + 2);
  nibbles(p + 4, out.code);
}
inline void read_q5_0(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b * 22;
  out.scale[0] = out.scale[1] = load_half(p), out.offset = 0;
  nibbles(p + 6, out.code);
  fifth_bits(load_u32(p + 2), out.code);
}
inline void read_q5_1(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b * 24;
  out.scale[0] = out.scale[1] = load_half(p), out.offset = load_half(p + 2);
  nibbles(p + 8, out.code);
  fifth_bits(load_u32(p + 4), out.code);
}
inline void read_q8_0(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b * 34;
  out.scale[0] = out.scale[1] = load_half(p), out.offset = 0;
  for (int i = 0; i < 32; ++i) out.code[i] = static_cast<uint8_t>(p[2 + i] ^ 0x80u);
}
// Q4_K and Q5_K: 256 elements; sub-blocks 2i and 2i+1 share 32 bytes, low nibbles then high.
inline void read_q4_k(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 144;
  const int j = static_cast<int>(b % 8);
  uint8_t scale, min;
  k_scale_min(p + 4, j, scale, min);
  out.scale[0] = out.scale[1] = load_half(p) * static_cast<float>(scale);
  out.offset = -(load_half(p + 2) * static_cast<float>(min));
  const uint8_t* q = p + 16 + j / 2 * 32;
  for (int i = 0; i < 32; ++i) out.code[i] = j % 2 ? q[i] >> 4 : q[i] & 0xf;
}
inline void read_q5_k(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 176;
  const int j = static_cast<int>(b % 8);
  uint8_t scale, min;
  k_scale_min(p + 4, j, scale, min);
  out.scale[0] = out.scale[1] = load_half(p) * static_cast<float>(scale);
  out.offset = -(load_half(p + 2) * static_cast<float>(min));
  const uint8_t *high = p + 16, *q = p + 48 + j / 2 * 32;
  for (int i = 0; i < 32; ++i) {
    out.code[i] = static_cast<uint8_t>((j % 2 ? q[i] >> 4 : q[i] & 0xf) | (high[i] >> j & 1) << 4);
  }
}
// Q6_K: 128 low bytes, 64 high bytes, 16 signed scales, half d. Each half of 128 elements has four
// groups of 32 over the same bytes.
inline void read_q6_k(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 210;
  const int half = static_cast<int>(b % 8) / 4, group = static_cast<int>(b % 4);
  const uint8_t* low = p + half * 64 + group % 2 * 32;
  const uint8_t* high = p + 128 + half * 32;
  const float d = load_half(p + 208);
  for (int i = 0; i < 2; ++i) {
    out.scale[i] = d * static_cast<float>(static_cast<int8_t>(p[192 + half * 8 + group * 2 + i]));
  }
  out.offset = 0;
  for (int i = 0; i < 32; ++i) {
    const int nibble = group < 2 ? low[i] & 0xf : low[i] >> 4;
    out.code[i] = static_cast<uint8_t>(nibble | (high[i] >> 2 * group & 3) << 4);
  }
}

}  // namespace
}  // namespace fovea::kernels::FOVEA_ISA_NS
