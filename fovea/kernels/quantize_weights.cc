#include "fovea/kernels/quantize_weights.h"

#include "fovea/kernels/scale_search.h"

namespace fovea::kernels {
namespace FOVEA_ISA_NS {
namespace {

uint16_t to_half(float value) {  // nearest, halves to even; past the range: the largest
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7bffu);
  if (magnitude < 0x38800000u) {  // subnormal: adding 1/2 aligns its last bit with a float's
    float small;
    std::memcpy(&small, &magnitude, 4);
    small += 0.5f;
    uint32_t out;
    std::memcpy(&out, &small, 4);
    return static_cast<uint16_t>(sign | (out - 0x3f000000u));
  }
  return static_cast<uint16_t>(sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13);
}
float put_half(float value, uint8_t* out) {
  const uint16_t half = to_half(value);
  std::memcpy(out, &half, 2);
  return half_to_float(half);
}

void to_f16(const float* x, int64_t n, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) put_half(x[i], out + 2 * i);
}
void to_bf16(const float* x, int64_t n, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, 4);
    auto half = static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
    if ((half & 0x7fffu) == 0x7f80u) --half;  // not rounded up to infinity
    std::memcpy(out + 2 * i, &half, 2);
  }
}

// The nearest whole number, within what any scale of a format may be.
int near_whole(float v) {
  constexpr float kMost = 1000;
  return static_cast<int>(std::lround(v > kMost ? kMost : v > -kMost ? v : -kMost));
}

// Codes of scale * code - shift.
template <class Values>
void put_codes(const Numbers& numbers, const Values& values, float scale, float shift, uint8_t* codes) {
  const float up = scale != 0 ? 1.0f / scale : 0.0f;
  for (int v = 0; v < numbers.n; ++v) {
    const Lanes near = values.nearest((numbers.x[v] + shift) * up);
    for (int i = 0; i < kLanes; ++i) codes[v * kLanes + i] = values.code(near[i]);
  }
}

// The low four bits as the older types have them: columns i and i + 16 in a byte.
void put_nibbles(const uint8_t* codes, uint8_t* out) {
  for (int i = 0; i < 16; ++i) out[i] = static_cast<uint8_t>((codes[i] & 0xf) | (codes[i + 16] & 0xf) << 4);
}
void put_fifths(const uint8_t* codes, uint8_t* out) {
  uint32_t bits = 0;
  for (int i = 0; i < 32; ++i) bits |= static_cast<uint32_t>(codes[i] >> 4 & 1) << i;
  std::memcpy(out, &bits, 4);
}

template <int kBits>
void block_of_scale(const Numbers& numbers, uint8_t* out) {
  constexpr float kHalf = 1 << (kBits - 1);
  const WholeNumbers values{kBits == 8 ? -127 : -kHalf, kHalf - 1};
  const float d = put_half(best_scale(numbers, values, kBits == 8 ? 3 : 9, 0.1f), out);
  uint8_t codes[32];
  put_codes(numbers, values, d, 0, codes);
  if constexpr (kBits == 8) {
    for (int i = 0; i < 32; ++i) out[2 + i] = static_cast<uint8_t>(codes[i] - 127);
  } else {
    if constexpr (kBits == 5) put_fifths(codes, out + 2);
    put_nibbles(codes, out + (kBits == 5 ? 6 : 2));
  }
}

template <int kBits>
void block_of_line(const Numbers& numbers, uint8_t* out) {
  constexpr float kLevels = (1 << kBits) - 1;
  const Line line = best_line(numbers, kLevels, false, 10, 0.1f);
  const float d = put_half(line.scale, out), m = put_half(-line.shift, out + 2);
  uint8_t codes[32];
  put_codes(numbers, WholeNumbers{0, kLevels}, d, -m, codes);
  if constexpr (kBits == 5) put_fifths(codes, out + 4);
  put_nibbles(codes, out + (kBits == 5 ? 8 : 4));
}

void block_of_iq4(const Numbers& numbers, uint8_t* out) {
  const Iq4Values values;
  const float d = put_half(best_scale(numbers, values, 9, 2.0f), out);
  uint8_t codes[32];
  put_codes(numbers, values, d, 0, codes);
  put_nibbles(codes, out + 2);
}

// E2M1 under a power of two: the three powers near the one that the format's rule takes.
void block_of_mxfp4(const float* x, const float* w, uint8_t* out) {
  float most = 0;
  for (int i = 0; i < 32; ++i) most = std::fabs(x[i]) > most ? std::fabs(x[i]) : most;
  int exponent = 0;
  if (most > 0) std::frexp(most, &exponent);
  const auto nearest = [](float v) {  // its code
    const float size = std::fabs(v);
    uint8_t code = 0;
    for (uint8_t i = 1; i < 8; ++i) {
      const int both = kBookE2M1[i - 1] + kBookE2M1[i] - 32;
      if (size > static_cast<float>(both) / 2) code = i;
    }
    return static_cast<uint8_t>(code | (v < 0 && code > 0 ? 8 : 0));
  };
  float best = 0;
  for (int k = -1; k <= 1; ++k) {
    const int e = exponent - 1 - 2 + 127 + k;
    const auto power = static_cast<uint8_t>(most > 0 ? (e < 0 ? 0 : e > 254 ? 254 : e) : 0);
    const float d = half_power(power);
    float error = 0;
    uint8_t codes[32];
    for (int i = 0; i < 32; ++i) {
      codes[i] = nearest(x[i] / d);
      const float off = d * static_cast<float>(kBookE2M1[codes[i]] - 16) - x[i];
      error += w[i] * off * off;
    }
    if (k > -1 && !(error < best)) continue;
    best = error;
    out[0] = power;
    put_nibbles(codes, out + 1);
  }
}

void block_of_tq2(const float* x, uint8_t* out) {
  float most = 0;
  for (int i = 0; i < 256; ++i) most = std::fabs(x[i]) > most ? std::fabs(x[i]) : most;
  const float d = put_half(most, out + 64), up = d > 0 ? 1.0f / d : 0.0f;
  for (int i = 0; i < 64; ++i) out[i] = 0;
  for (int i = 0; i < 256; ++i) {
    const float v = x[i] * up;
    const int code = v > 0.5f ? 2 : v < -0.5f ? 0 : 1;
    out[i / 128 * 32 + i % 32] |= static_cast<uint8_t>(code << 2 * (i / 32 % 4));
  }
}

// 256 columns whose parts of kColumns have scales that are whole numbers under one half float, and a value each.
template <int kColumns>
struct Parts {
  static constexpr int kN = 256 / kColumns;
  const float *x, *w;
  Numbers part(int j) const { return {x + j * kColumns, w + j * kColumns, kColumns}; }
};

// Signed scales from -kMost to kMost - 1. Gives d as a half float (stored at `d_out`), the scales and the codes.
template <int kColumns, int kMost, class Values>
void signed_parts(const Parts<kColumns>& parts, const Values& values, int steps, float step, uint8_t* d_out,
                  int* scales, uint8_t* codes) {
  constexpr int kN = Parts<kColumns>::kN;
  float ideal[kN], largest = 0;
  for (int j = 0; j < kN; ++j) {
    ideal[j] = best_scale(parts.part(j), values, steps, step);
    if (std::fabs(ideal[j]) > std::fabs(largest)) largest = ideal[j];
  }
  float d = largest / -kMost;
  float best_error = -1;
  for (int round = 0; round < 3; ++round) {
    uint8_t stored[2];
    d = put_half(d, stored);
    int whole[kN];
    float error = 0;
    double xv = 0, vv = 0;
    for (int j = 0; j < kN; ++j) {
      const Numbers numbers = parts.part(j);
      const float at = d != 0 ? ideal[j] / d : 0.0f;
      const int middle = near_whole(at);
      float least = -1;
      for (int s = middle - 1; s <= middle + 1; ++s) {
        if (s < -kMost || s >= kMost) continue;
        const float e = error_of(numbers, values, d * static_cast<float>(s));
        if (least < 0 || e < least) least = e, whole[j] = s;
      }
      if (least < 0)
        whole[j] = middle < 0 ? -kMost : kMost - 1, least = error_of(numbers, values, d * static_cast<float>(whole[j]));
      error += least;
      const float scale = d * static_cast<float>(whole[j]), up = scale != 0 ? 1.0f / scale : 0.0f;
      Lanes xs = {}, vs = {};
      for (int v = 0; v < numbers.n; ++v) {
        const Lanes value = values.nearest(numbers.x[v] * up) * static_cast<float>(whole[j]);
        xs += numbers.w[v] * value * numbers.x[v], vs += numbers.w[v] * value * value;
      }
      xv += sum_of(xs), vv += sum_of(vs);
    }
    if (round > 0 && !(error < best_error)) break;
    best_error = error;
    std::memcpy(d_out, stored, 2);
    for (int j = 0; j < kN; ++j) {
      scales[j] = whole[j];
      put_codes(parts.part(j), values, d * static_cast<float>(whole[j]), 0, codes + j * kColumns);
    }
    if (!(vv > 0)) break;
    d = static_cast<float>(xv / vv);  // the best for these codes
  }
}

// Scales and minima from 0 to kMost, codes from 0 to kLevels.
template <int kColumns, int kMost, int kLevels>
void lined_parts(const Parts<kColumns>& parts, uint8_t* d_out, uint8_t* least_out, uint8_t* scales, uint8_t* mins,
                 uint8_t* codes) {
  constexpr int kN = Parts<kColumns>::kN;
  const WholeNumbers values{0, kLevels};
  Line ideal[kN];
  float d = 0, least = 0;
  for (int j = 0; j < kN; ++j) {
    ideal[j] = best_line(parts.part(j), kLevels, true, kLevels > 3 ? 10 : 12, kLevels > 3 ? 0.1f : 0.08f);
    d = ideal[j].scale > d ? ideal[j].scale : d, least = ideal[j].shift > least ? ideal[j].shift : least;
  }
  d /= kMost, least /= kMost;
  float best_error = -1;
  for (int round = 0; round < 3; ++round) {
    uint8_t stored[4];
    d = put_half(d, stored), least = put_half(least, stored + 2);
    uint8_t whole[kN], under[kN];
    float error = 0;
    double vv = 0, vm = 0, mm = 0, xv = 0, xm = 0;
    for (int j = 0; j < kN; ++j) {
      const Numbers numbers = parts.part(j);
      const int scale_at = d > 0 ? near_whole(ideal[j].scale / d) : 0;
      const int min_at = least > 0 ? near_whole(ideal[j].shift / least) : 0;
      float part_error = -1;
      for (int s = scale_at - 1; s <= scale_at + 1; ++s) {
        for (int m = min_at - 1; m <= min_at + 1; ++m) {
          const int scale = s < 0 ? 0 : s > kMost ? kMost : s, min = m < 0 ? 0 : m > kMost ? kMost : m;
          const float e = error_of(numbers, values, d * static_cast<float>(scale), least * static_cast<float>(min));
          if (part_error >= 0 && !(e < part_error)) continue;
          part_error = e, whole[j] = static_cast<uint8_t>(scale), under[j] = static_cast<uint8_t>(min);
        }
      }
      error += part_error;
      const float scale = d * static_cast<float>(whole[j]), up = scale != 0 ? 1.0f / scale : 0.0f;
      const float shift = least * static_cast<float>(under[j]), m = under[j];
      Lanes w = {}, x = {}, v1 = {}, v2 = {}, v3 = {};
      for (int v = 0; v < numbers.n; ++v) {
        const Lanes value = values.nearest((numbers.x[v] + shift) * up) * static_cast<float>(whole[j]);
        const Lanes wv = numbers.w[v] * value;
        w += numbers.w[v], x += numbers.w[v] * numbers.x[v], v1 += wv, v2 += wv * value, v3 += wv * numbers.x[v];
      }
      vv += sum_of(v2), vm += static_cast<double>(m) * sum_of(v1), mm += static_cast<double>(m) * m * sum_of(w);
      xv += sum_of(v3), xm += static_cast<double>(m) * sum_of(x);
    }
    if (round > 0 && !(error < best_error)) break;
    best_error = error;
    std::memcpy(d_out, stored, 2);
    std::memcpy(least_out, stored + 2, 2);
    for (int j = 0; j < kN; ++j) {
      scales[j] = whole[j], mins[j] = under[j];
      put_codes(parts.part(j), values, d * static_cast<float>(whole[j]), least * static_cast<float>(under[j]),
                codes + j * kColumns);
    }
    // x = d v - least m by least squares, for these codes and whole numbers.
    const double det = vv * mm - vm * vm;
    if (mm > 0 && det > 0) {
      d = static_cast<float>((xv * mm - xm * vm) / det), least = static_cast<float>((xv * vm - xm * vv) / det);
    } else if (vv > 0) {
      d = static_cast<float>(xv / vv);
    }
    if (!(d > 0) || least < 0) break;
  }
}

void put_q2_k(const Parts<16>& parts, uint8_t* out) {
  uint8_t scales[16], mins[16], codes[256];
  lined_parts<16, 15, 3>(parts, out + 80, out + 82, scales, mins, codes);
  for (int j = 0; j < 16; ++j) out[j] = static_cast<uint8_t>(scales[j] | mins[j] << 4);
  for (int i = 0; i < 64; ++i) {
    const uint8_t* q = codes + i / 32 * 128 + i % 32;
    out[16 + i] = static_cast<uint8_t>(q[0] | q[32] << 2 | q[64] << 4 | q[96] << 6);
  }
}

void put_q3_k(const Parts<16>& parts, uint8_t* out) {
  int scales[16];
  uint8_t codes[256];
  signed_parts<16, 32>(parts, WholeNumbers{-4, 3}, 9, 0.1f, out + 108, scales, codes);
  for (int i = 0; i < 108; ++i) out[i] = 0;
  for (int j = 0; j < 16; ++j) {
    const int scale = scales[j] + 32;
    out[96 + j % 8] |= static_cast<uint8_t>((scale & 0xf) << (j < 8 ? 0 : 4));
    out[104 + j % 4] |= static_cast<uint8_t>(scale >> 4 << 2 * (j / 4));
  }
  for (int i = 0; i < 256; ++i) {
    out[i % 32] |= static_cast<uint8_t>(codes[i] >> 2 << i / 32);
    out[32 + i / 128 * 32 + i % 32] |= static_cast<uint8_t>((codes[i] & 3) << 2 * (i / 32 % 4));
  }
}

template <int kBits>
void put_q45_k(const Parts<32>& parts, uint8_t* out) {
  uint8_t scales[8], mins[8], codes[256];
  lined_parts<32, 63, (1 << kBits) - 1>(parts, out, out + 2, scales, mins, codes);
  for (int j = 0; j < 4; ++j) {
    out[4 + j] = static_cast<uint8_t>(scales[j] | scales[j + 4] >> 4 << 6);
    out[8 + j] = static_cast<uint8_t>(mins[j] | mins[j + 4] >> 4 << 6);
    out[12 + j] = static_cast<uint8_t>((scales[j + 4] & 0xf) | (mins[j + 4] & 0xf) << 4);
  }
  uint8_t* q = out + (kBits == 5 ? 48 : 16);
  for (int i = 0; i < 128; ++i) {
    const uint8_t* from = codes + i / 32 * 64 + i % 32;
    q[i] = static_cast<uint8_t>((from[0] & 0xf) | (from[32] & 0xf) << 4);
  }
  if constexpr (kBits == 5) {
    for (int i = 0; i < 32; ++i) {
      out[16 + i] = 0;
      for (int j = 0; j < 8; ++j) out[16 + i] |= static_cast<uint8_t>(codes[32 * j + i] >> 4 << j);
    }
  }
}

void put_q6_k(const Parts<16>& parts, uint8_t* out) {
  int scales[16];
  uint8_t codes[256];
  signed_parts<16, 128>(parts, WholeNumbers{-32, 31}, 9, 0.1f, out + 208, scales, codes);
  for (int j = 0; j < 16; ++j) out[192 + j] = static_cast<uint8_t>(scales[j]);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* q = codes + 128 * half;
    for (int i = 0; i < 64; ++i) out[64 * half + i] = static_cast<uint8_t>((q[i] & 0xf) | (q[i + 64] & 0xf) << 4);
    for (int i = 0; i < 32; ++i) {
      out[128 + 32 * half + i] =
          static_cast<uint8_t>(q[i] >> 4 | q[i + 32] >> 4 << 2 | q[i + 64] >> 4 << 4 | q[i + 96] >> 4 << 6);
    }
  }
}

void put_iq4_xs(const Parts<32>& parts, uint8_t* out) {
  int scales[8];
  uint8_t codes[256];
  signed_parts<32, 32>(parts, Iq4Values{}, 9, 2.0f, out, scales, codes);
  for (int i = 2; i < 8; ++i) out[i] = 0;
  for (int j = 0; j < 8; ++j) {
    const int scale = scales[j] + 32;
    out[2 + j / 4] |= static_cast<uint8_t>(scale >> 4 << 2 * (j % 4));
    out[4 + j / 2] |= static_cast<uint8_t>((scale & 0xf) << 4 * (j % 2));
    put_nibbles(codes + 32 * j, out + 8 + 16 * j);
  }
}

// Types whose blocks have one scale and no offset: the scale that is best for all numbers alike cuts the largest short,
// which a model feels more than the rest of its error. Others were no nearer for it.
bool counts_by_size(DType type) {
  switch (type) {
    case DType::kQ4_0:
    case DType::kQ5_0:
    case DType::kQ8_0:
    case DType::kIQ4_NL:
    case DType::kMXFP4: return true;
    default: return false;
  }
}

// How much errors of such a block count where no importance says it: 1 + x^2 / mean(x^2).
void by_size(const float* x, int n, float* weights) {
  float most = 0, squares = 0;
  for (int i = 0; i < n; ++i) most = std::fabs(x[i]) > most ? std::fabs(x[i]) : most;
  for (int i = 0; i < n; ++i) {
    const float share = most > 0 ? x[i] / most : 0;
    weights[i] = share * share, squares += weights[i];
  }
  const float by = squares > 0 ? static_cast<float>(n) / squares : 0;
  for (int i = 0; i < n; ++i) weights[i] = 1 + weights[i] * by;
}

void block_of(DType type, const float* x, const float* w, uint8_t* out) {
  const Numbers numbers(x, w, 32);
  switch (type) {
    case DType::kQ4_0: return block_of_scale<4>(numbers, out);
    case DType::kQ5_0: return block_of_scale<5>(numbers, out);
    case DType::kQ8_0: return block_of_scale<8>(numbers, out);
    case DType::kQ4_1: return block_of_line<4>(numbers, out);
    case DType::kQ5_1: return block_of_line<5>(numbers, out);
    case DType::kIQ4_NL: return block_of_iq4(numbers, out);
    case DType::kMXFP4: return block_of_mxfp4(x, w, out);
    case DType::kTQ2_0: return block_of_tq2(x, out);
    case DType::kQ2_K: return put_q2_k({x, w}, out);
    case DType::kQ3_K: return put_q3_k({x, w}, out);
    case DType::kQ4_K: return put_q45_k<4>({x, w}, out);
    case DType::kQ5_K: return put_q45_k<5>({x, w}, out);
    case DType::kQ6_K: return put_q6_k({x, w}, out);
    case DType::kIQ4_XS: return put_iq4_xs({x, w}, out);
    default: return;
  }
}

void quantize_weights(DType type, const float* x, const float* importance, int64_t n, void* out) {
  auto* to = static_cast<uint8_t*>(out);
  if (type == DType::kF32) std::memcpy(to, x, static_cast<size_t>(n) * 4);
  if (type == DType::kF16) to_f16(x, n, to);
  if (type == DType::kBF16) to_bf16(x, n, to);
  if (type == DType::kF32 || type == DType::kF16 || type == DType::kBF16) return;
  const DTypeInfo& info = dtype_info(type);
  float weights[256];
  for (int64_t at = 0; at < n; at += info.block_elements, to += info.block_bytes) {
    if (!importance && counts_by_size(type)) {
      by_size(x + at, info.block_elements, weights);
    } else {
      for (int i = 0; i < info.block_elements; ++i) weights[i] = importance ? importance[at + i] : 1.0f;
    }
    block_of(type, x + at, weights, to);
  }
}

}  // namespace
FOVEA_KERNEL(quantize_weights)
}  // namespace FOVEA_ISA_NS

#if FOVEA_ISA_LEVEL == 0

bool can_quantize(DType type) {
  switch (type) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ8_0:
    case DType::kQ2_K:
    case DType::kQ3_K:
    case DType::kQ4_K:
    case DType::kQ5_K:
    case DType::kQ6_K:
    case DType::kIQ4_NL:
    case DType::kIQ4_XS:
    case DType::kMXFP4:
    case DType::kTQ2_0: return true;
    default: return false;
  }
}

#endif

}  // namespace fovea::kernels
