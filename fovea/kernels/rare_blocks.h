// The block formats that multiply through a wider form: 8-bit codes, w = scale[i / 16] * (code - 128); private to
// kernels. Every number of theirs is a whole multiple of a float32 that holds it exactly, so nothing is lost.
#pragma once

#include "fovea/kernels/blocks.h"
#include "fovea/kernels/iq_grids.h"

namespace fovea::kernels::FOVEA_ISA_NS {
namespace {

template <int kPoints, int kCoordinates>
struct Lattice {
  int8_t at[kPoints][kCoordinates];
};

// From the characters of iq_grids.h; `values` says what a digit means.
template <int kPoints, int kCoordinates, int kDigits>
constexpr Lattice<kPoints, kCoordinates> lattice(const char* points, const int8_t (&values)[kDigits]) {
  Lattice<kPoints, kCoordinates> out{};
  int number = 0;
  for (int i = 0; i < kPoints; ++i) {
    for (; *points == '~'; ++points) number += 91;
    number += *points++ - '#';
    for (int c = 0, left = number; c < kCoordinates; ++c, left /= kDigits) out.at[i][c] = values[left % kDigits];
  }
  return out;
}
constexpr int8_t kThird[] = {8, 25, 43}, kEighth[] = {4, 12, 20, 28, 36, 44, 52, 62},
                 kOdd[] = {1, 3, 5, 7, 9, 11, 13, 15}, kTernary[] = {-8, 0, 8};
constexpr auto kIq2XxsGrid = lattice<256, 8>(kIQ2XXSPoints, kThird);
constexpr auto kIq2XsGrid = lattice<512, 8>(kIQ2XSPoints, kThird);
constexpr auto kIq2SGrid = lattice<1024, 8>(kIQ2SPoints, kThird);
constexpr auto kIq3XxsGrid = lattice<256, 4>(kIQ3XXSPoints, kEighth);
constexpr auto kIq3SGrid = lattice<512, 4>(kIQ3SPoints, kOdd);
constexpr auto kIq1Grid = lattice<2048, 8>(kIQ1SPoints, kTernary);  // eight times its values

inline uint16_t load_u16(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, 2);
  return bits;
}

// Bits of `negative` say which of the next n values change their sign.
inline void put_points(const int8_t* values, int n, uint32_t negative, uint8_t* code) {
  for (int i = 0; i < n; ++i) code[i] = static_cast<uint8_t>(128 + (negative >> i & 1 ? -values[i] : values[i]));
}
// Seven signs and the eighth, which makes their number even.
inline uint32_t even_signs(uint32_t seven) {
  return (seven & 127) | static_cast<uint32_t>(__builtin_parity(seven & 127)) << 7;
}

inline void read_iq2_xxs(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 66;
  const uint8_t* q = p + 2 + b % 8 * 8;
  const uint32_t signs = load_u32(q + 4);
  set_scale(out, load_half(p) * (0.5f + static_cast<float>(signs >> 28)) * 0.25f);
  for (int l = 0; l < 4; ++l) put_points(kIq2XxsGrid.at[q[l]], 8, even_signs(signs >> 7 * l), out.code + 8 * l);
}
inline void two_quarter_scales(float d, uint8_t both, Codes& out) {
  out.scale[0] = d * (0.5f + static_cast<float>(both & 0xf)) * 0.25f;
  out.scale[1] = d * (0.5f + static_cast<float>(both >> 4)) * 0.25f;
}
inline void read_iq2_xs(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 74;
  const int group = static_cast<int>(b % 8);
  two_quarter_scales(load_half(p), p[66 + group], out);
  for (int l = 0; l < 4; ++l) {
    const uint32_t q = load_u16(p + 2 + 8 * group + 2 * l);
    put_points(kIq2XsGrid.at[q & 511], 8, even_signs(q >> 9), out.code + 8 * l);
  }
}
inline void read_iq2_s(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 82;
  const int group = static_cast<int>(b % 8);
  two_quarter_scales(load_half(p), p[74 + group], out);
  for (int l = 0; l < 4; ++l) {
    const int point = p[2 + 4 * group + l] | (p[66 + group] >> 2 * l & 3) << 8;
    put_points(kIq2SGrid.at[point], 8, p[34 + 4 * group + l], out.code + 8 * l);
  }
}
inline void read_iq3_xxs(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 98;
  const int group = static_cast<int>(b % 8);
  const uint32_t signs = load_u32(p + 66 + 4 * group);
  set_scale(out, load_half(p) * (0.5f + static_cast<float>(signs >> 28)) * 0.5f);
  for (int k = 0; k < 8; ++k)
    put_points(kIq3XxsGrid.at[p[2 + 8 * group + k]], 4, even_signs(signs >> 7 * (k / 2)) >> 4 * (k % 2),
               out.code + 4 * k);
}
inline void read_iq3_s(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 110;
  const int group = static_cast<int>(b % 8), scale = p[106 + group / 2] >> 4 * (group % 2) & 0xf;
  set_scale(out, load_half(p) * static_cast<float>(1 + 2 * scale));
  for (int k = 0; k < 8; ++k) {
    const int point = p[2 + 8 * group + k] | (p[66 + group] >> k & 1) << 8;
    put_points(kIq3SGrid.at[point], 4, static_cast<uint32_t>(p[74 + 4 * group + k / 2]) >> 4 * (k % 2),
               out.code + 4 * k);
  }
}
// Eight ternary values, each moved by an eighth.
inline void put_ternary(int point, bool down, uint8_t* code) {
  for (int i = 0; i < 8; ++i) code[i] = static_cast<uint8_t>(128 + kIq1Grid.at[point][i] + (down ? -1 : 1));
}
inline void read_iq1_s(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 50;
  const int group = static_cast<int>(b % 8);
  const int high = load_u16(p + 34 + 2 * group);
  set_scale(out, load_half(p) * static_cast<float>(2 * (high >> 12 & 7) + 1) * 0.125f);
  for (int l = 0; l < 4; ++l)
    put_ternary(p[2 + 4 * group + l] | (high >> 3 * l & 7) << 8, (high & 0x8000) != 0, out.code + 8 * l);
}
inline void read_iq1_m(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 56;
  const int group = static_cast<int>(b % 8);
  uint32_t half = 0;  // its four nibbles are the top ones of four words
  for (int i = 0; i < 4; ++i) half |= static_cast<uint32_t>(load_u16(p + 48 + 2 * i)) >> 12 << 4 * i;
  const float d = half_to_float(static_cast<uint16_t>(half));
  for (int h = 0; h < 2; ++h) {
    const int t = 2 * group + h, scale = load_u16(p + 48 + t / 4 * 2) >> 3 * (t % 4) & 7;
    out.scale[h] = d * static_cast<float>(2 * scale + 1) * 0.125f;
    for (int k = 0; k < 2; ++k) {
      const int high = p[32 + t] >> 4 * k, l = 2 * h + k;
      put_ternary(p[4 * group + l] | (high & 7) << 8, (high & 8) != 0, out.code + 8 * l);
    }
  }
}

// TQ1_0: five values in a byte, the leading digits base 3 of its 256ths: 160 in 32 bytes, 80 in 16, and 16 in 4.
inline void read_tq1_0(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 54;
  const int group = static_cast<int>(b % 8);
  set_scale(out, load_half(p + 52));
  constexpr uint8_t kPowers[] = {1, 3, 9, 27, 81};
  for (int i = 0; i < 32; ++i) {
    const int column = 32 * group + i, of_80 = column - 160, of_16 = column - 240;
    const int digit = group < 5 ? group : of_16 < 0 ? of_80 / 16 : of_16 / 4;
    const int at = group < 5 ? i : of_16 < 0 ? 32 + of_80 % 16 : 48 + of_16 % 4;
    const auto rest = static_cast<uint8_t>(p[at] * kPowers[digit]);
    out.code[i] = static_cast<uint8_t>(127 + (rest * 3 >> 8));
  }
}
inline void read_tq2_0(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 8 * 66;
  const int group = static_cast<int>(b % 8);
  set_scale(out, load_half(p + 64));
  for (int i = 0; i < 32; ++i) out.code[i] = static_cast<uint8_t>(127 + (p[group / 4 * 32 + i] >> 2 * (group % 4) & 3));
}

// Half of an unsigned E4M3; 0x7f, its NaN, counts as zero.
inline float half_e4m3(uint8_t bits) {
  const int exponent = bits >> 3 & 0xf, mantissa = bits & 7;
  if (bits == 0x7f) return 0;
  if (exponent == 0) return static_cast<float>(mantissa) * 0x1p-10f;
  const uint32_t whole = static_cast<uint32_t>(exponent - 8 + 127) << 23 | static_cast<uint32_t>(mantissa) << 20;
  float value;
  std::memcpy(&value, &whole, 4);
  return value;
}
// NVFP4: four scales of 16 columns each, whose nibbles stand in 8 bytes, low ones first.
inline void read_nvfp4(const uint8_t* row, int64_t b, Codes& out) {
  const uint8_t* p = row + b / 2 * 36;
  for (int h = 0; h < 2; ++h) {
    const int part = static_cast<int>(b % 2) * 2 + h;
    out.scale[h] = half_e4m3(p[part]);
    for (int i = 0; i < 16; ++i) {
      const uint8_t q = p[4 + 8 * part + i % 8];
      out.code[16 * h + i] = static_cast<uint8_t>(128 - 16 + kBookE2M1[i < 8 ? q & 0xf : q >> 4]);
    }
  }
}

}  // namespace
}  // namespace fovea::kernels::FOVEA_ISA_NS
