// How the scale of a few numbers is found; private to quantize_weights.cc. A search tries scales that put the largest
// number at or near the ends of the codes, solves the weighted least squares for the codes that each gives, and keeps
// the scale with the least error. All sums run in lanes of 16, in an order that no instruction set changes.
#pragma once

#include <cmath>

#include "fovea/kernels/blocks.h"

namespace fovea::kernels::FOVEA_ISA_NS {
namespace {

using Lanes = float __attribute__((vector_size(64)));
using Mask = int32_t __attribute__((vector_size(64)));
constexpr int kLanes = 16;

inline Lanes all_lanes(float v) { return Lanes{} + v; }
inline Lanes least_of(Lanes a, Lanes b) { return a < b ? a : b; }
inline Lanes most_of(Lanes a, Lanes b) { return a > b ? a : b; }
inline Lanes rounded(Lanes v) {  // to even, of magnitudes below 2^22
  const Lanes whole = all_lanes(0x1.8p23f);
  return (v + whole) - whole;
}
inline float sum_of(Lanes v) {
  float out = 0;
  for (int i = 0; i < kLanes; ++i) out += v[i];
  return out;
}

// 16 or 32 numbers that share a scale, with their weights.
struct Numbers {
  Lanes x[2], w[2];
  int n = 0;  // of lanes
  Numbers(const float* from, const float* weights, int count) : n(count / kLanes) {
    for (int v = 0; v < n; ++v) {
      std::memcpy(&x[v], from + v * kLanes, sizeof x[v]);
      std::memcpy(&w[v], weights + v * kLanes, sizeof w[v]);
    }
  }
};

// Whole numbers from `low` to `high`.
struct WholeNumbers {
  float low, high;
  Lanes nearest(Lanes v) const { return rounded(least_of(most_of(v, all_lanes(low)), all_lanes(high))); }
  uint8_t code(float value) const { return static_cast<uint8_t>(value - low); }
};
// The values of IQ4_NL.
struct Iq4Values {
  float low = -127, high = 113;
  Lanes nearest(Lanes v) const {
    Lanes out = all_lanes(low);
    for (int i = 1; i < 16; ++i) {
      const float before = static_cast<float>(kBookIq4[i - 1]) - 128, at = static_cast<float>(kBookIq4[i]) - 128;
      out += v > all_lanes((before + at) / 2) ? all_lanes(at - before) : Lanes{};
    }
    return out;
  }
  uint8_t code(float value) const {
    for (uint8_t i = 0; i < 15; ++i) {
      if (static_cast<float>(kBookIq4[i]) - 128 >= value) return i;
    }
    return 15;
  }
};

// Weighted squared error of scale * value - shift, values the nearest of `values`.
template <class Values>
inline float error_of(const Numbers& numbers, const Values& values, float scale, float shift = 0) {
  const Lanes by = all_lanes(scale), up = all_lanes(scale != 0 ? 1.0f / scale : 0.0f), minus = all_lanes(shift);
  Lanes sum = {};
  for (int v = 0; v < numbers.n; ++v) {
    const Lanes off = by * values.nearest((numbers.x[v] + minus) * up) - minus - numbers.x[v];
    sum += numbers.w[v] * off * off;
  }
  return sum_of(sum);
}

// 1 / scale stays finite for every scale that a search returns.
constexpr float kLeastMagnitude = 1e-30f;

// x = scale * value: the best scale, of either sign; 0 if all numbers are next to nothing. `steps`: how many tenths of
// a code the largest number is moved from either end of the values, to both sides.
template <class Values>
inline float best_scale(const Numbers& numbers, const Values& values, int steps, float step) {
  Lanes most = all_lanes(0), least = all_lanes(0);
  for (int v = 0; v < numbers.n; ++v) most = most_of(most, numbers.x[v]), least = least_of(least, numbers.x[v]);
  float high = 0, low = 0;
  for (int i = 0; i < kLanes; ++i) high = most[i] > high ? most[i] : high, low = least[i] < low ? least[i] : low;
  const float largest = high >= -low ? high : low;
  if (!(std::fabs(largest) > kLeastMagnitude)) return 0;
  float best = 0, best_gain = 0;
  for (const float end : {values.low, values.high}) {
    for (int k = -steps; k <= steps; ++k) {
      const float inverse = (end + step * static_cast<float>(k)) / largest;
      Lanes xq = {}, qq = {};
      for (int v = 0; v < numbers.n; ++v) {
        const Lanes q = values.nearest(numbers.x[v] * inverse), wq = numbers.w[v] * q;
        xq += wq * numbers.x[v], qq += wq * q;
      }
      const float x_sum = sum_of(xq), q_sum = sum_of(qq);
      if (!(q_sum > 0)) continue;
      const float gain = x_sum / q_sum * x_sum;
      if (gain > best_gain) best_gain = gain, best = x_sum / q_sum;
    }
  }
  return std::fabs(best) > kLeastMagnitude ? best : 0;
}

struct Line {
  float scale, shift;  // x = scale * code - shift
};

// Codes 0 to `levels`. `down`: the shift may not be negative (the K types').
inline Line best_line(const Numbers& numbers, float levels, bool down, int steps, float step) {
  float low = numbers.x[0][0], high = low;
  for (int v = 0; v < numbers.n; ++v) {
    for (int i = 0; i < kLanes; ++i) {
      const float x = numbers.x[v][i];
      low = x < low ? x : low, high = x > high ? x : high;
    }
  }
  if (down && low > 0) low = 0;
  if (!(high - low > kLeastMagnitude)) return {0, -low};
  const WholeNumbers values{0, levels};
  Line best = {(high - low) / levels, -low};
  float best_error = error_of(numbers, values, best.scale, best.shift);
  // The line through given codes, by least squares; then its error with the codes that are nearest to it.
  const auto improve = [&](float inverse, float shift) {
    Lanes w = {}, x = {}, q = {}, qq = {}, xq = {};
    for (int v = 0; v < numbers.n; ++v) {
      const Lanes code = values.nearest((numbers.x[v] + shift) * inverse), wq = numbers.w[v] * code;
      w += numbers.w[v], x += numbers.w[v] * numbers.x[v], q += wq, qq += wq * code, xq += wq * numbers.x[v];
    }
    const double sw = sum_of(w), sx = sum_of(x), sq = sum_of(q), sqq = sum_of(qq), sxq = sum_of(xq);
    const double det = sw * sqq - sq * sq;
    if (!(det > 0)) return false;
    Line line = {static_cast<float>((sw * sxq - sx * sq) / det), static_cast<float>((sq * sxq - sqq * sx) / det)};
    if (down && line.shift < 0) line = {static_cast<float>(sxq / sqq), 0};
    if (!(line.scale > kLeastMagnitude)) return false;
    const float error = error_of(numbers, values, line.scale, line.shift);
    if (!(error < best_error)) return false;
    best = line, best_error = error;
    return true;
  };
  for (int k = -steps; k <= steps; ++k) improve((levels + step * static_cast<float>(k)) / (high - low), -low);
  for (int i = 0; i < 4 && improve(1.0f / best.scale, best.shift); ++i) {
  }
  return best;
}

}  // namespace
}  // namespace fovea::kernels::FOVEA_ISA_NS
