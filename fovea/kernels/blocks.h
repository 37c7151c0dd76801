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

// 32 columns of one row as unsigned codes: w = scale[i / 16] * (code - zero) + offset[i / 16]; `zero` is in kind_of
// (pack.h). The halves differ in Q2_K, Q3_K and Q6_K only; types without offsets leave them alone.
struct Codes {
  uint8_t code[32];
  float scale[2], offset[2];
};

inline void set_scale(Codes& out, float scale) { out.scale[0] = out.scale[1] = scale; }
inline void set_offset(Codes& out, float offset) { out.offset[0] = out.offset[1] = offset; }

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
  set_scale(out, load_half(p));
  nibbles(p + 2, out.code);
}
inline void read_q4_1(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b * 20;
  set_scale(out, load_half(p)), set_offset(out, load_half(p + 2));
  nibbles(p + 4, out.code);
}
inline void read_q5_0(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b * 22;
  set_scale(out, load_half(p));
  nibbles(p + 6, out.code);
  fifth_bits(load_u32(p + 2), out.code);
}
inline void read_q5_1(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b * 24;
  set_scale(out, load_half(p)), set_offset(out, load_half(p + 2));
  nibbles(p + 8, out.code);
  fifth_bits(load_u32(p + 4), out.code);
}
inline void read_q8_0(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b * 34;
  set_scale(out, load_half(p));
  for (int i = 0; i < 32; ++i) out.code[i] = static_cast<uint8_t>(p[2 + i] ^ 0x80u);
}
// Q4_K and Q5_K: 256 elements; sub-blocks 2i and 2i+1 share 32 bytes, low nibbles then high.
inline void read_q4_k(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 144;
  const int j = static_cast<int>(b % 8);
  uint8_t scale, min;
  k_scale_min(p + 4, j, scale, min);
  set_scale(out, load_half(p) * static_cast<float>(scale));
  set_offset(out, -(load_half(p + 2) * static_cast<float>(min)));
  const uint8_t* q = p + 16 + j / 2 * 32;
  for (int i = 0; i < 32; ++i) out.code[i] = j % 2 ? q[i] >> 4 : q[i] & 0xf;
}
inline void read_q5_k(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 176;
  const int j = static_cast<int>(b % 8);
  uint8_t scale, min;
  k_scale_min(p + 4, j, scale, min);
  set_scale(out, load_half(p) * static_cast<float>(scale));
  set_offset(out, -(load_half(p + 2) * static_cast<float>(min)));
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
  for (int i = 0; i < 32; ++i) {
    const int nibble = group < 2 ? low[i] & 0xf : low[i] >> 4;
    out.code[i] = static_cast<uint8_t>(nibble | (high[i] >> 2 * group & 3) << 4);
  }
}

// Q2_K: 16 bytes of a 4-bit scale and minimum for 16 columns each, 64 bytes of codes, two half floats. 128 columns are
// four groups of 32 over the same bytes.
inline void read_q2_k(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 84;
  const int group = static_cast<int>(b % 8);
  const float d = load_half(p + 80), least = load_half(p + 82);
  for (int h = 0; h < 2; ++h) {
    const uint8_t both = p[2 * group + h];
    out.scale[h] = d * static_cast<float>(both & 0xf), out.offset[h] = -(least * static_cast<float>(both >> 4));
  }
  const uint8_t* q = p + 16 + group / 4 * 32;
  for (int i = 0; i < 32; ++i) out.code[i] = q[i] >> 2 * (group % 4) & 3;
}
// Scale t (of 16) of a Q3_K block, -32 to 31: four low bits and two high ones in 12 bytes.
inline int q3_k_scale(const uint8_t* q, int t) {
  return ((t < 8 ? q[t] & 0xf : q[t - 8] >> 4) | (q[8 + t % 4] >> 2 * (t / 4) & 3) << 4) - 32;
}
// Q3_K: 32 bytes of high bits, 64 of low ones, 12 of scales, half d.
inline void read_q3_k(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 110;
  const int group = static_cast<int>(b % 8);
  const float d = load_half(p + 108);
  for (int h = 0; h < 2; ++h) out.scale[h] = d * static_cast<float>(q3_k_scale(p + 96, 2 * group + h));
  const uint8_t* q = p + 32 + group / 4 * 32;
  for (int i = 0; i < 32; ++i)
    out.code[i] = static_cast<uint8_t>((q[i] >> 2 * (group % 4) & 3) | (p[i] >> group & 1) << 2);
}

// Values that nibbles stand for: IQ4_NL's and IQ4_XS's, as int8 with the top bit turned (zero point 128), and twice
// those of four-bit floats (E2M1), with zero point 16.
alignas(16) inline constexpr uint8_t kBookIq4[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                     129, 141, 153, 166, 181, 197, 217, 241};
alignas(16) inline constexpr uint8_t kBookE2M1[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

// Half of 2^(e - 127), for the doubled values of E2M1; 0 and 1 are subnormal.
inline float half_power(uint8_t e) {
  const uint32_t bits = e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline void look_up(const uint8_t* book, uint8_t* code) {
  for (int i = 0; i < 32; ++i) code[i] = book[code[i]];
}
inline void read_iq4_nl(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b * 18;
  set_scale(out, load_half(p));
  nibbles(p + 2, out.code);
  look_up(kBookIq4, out.code);
}
// Scale `group` (of 8) of an IQ4_XS block, -32 to 31.
inline int iq4_xs_scale(const uint8_t* block, int group) {
  const int high = block[2 + group / 4] >> 2 * (group % 4) & 3;
  return ((block[4 + group / 2] >> 4 * (group % 2) & 0xf) | high << 4) - 32;
}
inline void read_iq4_xs(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 136;
  const int group = static_cast<int>(b % 8);
  set_scale(out, load_half(p) * static_cast<float>(iq4_xs_scale(p, group)));
  nibbles(p + 8 + 16 * group, out.code);
  look_up(kBookIq4, out.code);
}
inline void read_mxfp4(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b * 17;
  set_scale(out, half_power(p[0]));
  nibbles(p + 1, out.code);
  look_up(kBookE2M1, out.code);
}

}  // namespace
}  // namespace fovea::kernels::FOVEA_ISA_NS
