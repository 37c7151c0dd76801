// How a fresh weight is drawn.
#pragma once

#include <cstdint>
#include <string_view>

#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

// Of a matrix [rows, cols], cols is fan_in and rows fan_out; of a vector both are its length.
//   Xavier (Glorot & Bengio 2010):         deviation gain sqrt(2 / (fan_in + fan_out))
//   Kaiming (He et al., arXiv:1502.01852): deviation gain / sqrt(fan_in); gain sqrt(2) before a ReLU
// A uniform draw lies in +-sqrt(3) deviations.
struct Init {
  enum class Kind { kConstant, kNormal, kUniform, kXavierNormal, kXavierUniform, kKaimingNormal, kKaimingUniform };
  Kind kind = Kind::kConstant;
  float value = 0;  // the constant, the deviation, the bound, or the gain

  static constexpr Init zeros() { return {Kind::kConstant, 0}; }
  static constexpr Init ones() { return {Kind::kConstant, 1}; }
  static constexpr Init constant(float value) { return {Kind::kConstant, value}; }
  static constexpr Init normal(float deviation) { return {Kind::kNormal, deviation}; }
  static constexpr Init uniform(float bound) { return {Kind::kUniform, bound}; }
  static constexpr Init xavier_normal(float gain = 1) { return {Kind::kXavierNormal, gain}; }
  static constexpr Init xavier_uniform(float gain = 1) { return {Kind::kXavierUniform, gain}; }
  static constexpr Init kaiming_normal(float gain = kReluGain) { return {Kind::kKaimingNormal, gain}; }
  static constexpr Init kaiming_uniform(float gain = kReluGain) { return {Kind::kKaimingUniform, gain}; }

 private:
  static constexpr float kReluGain = 1.41421356f;
};

// A tensor of this shape. Its values are a function of the seed and the name, whatever the threads and whatever else
// was drawn before.
Tensor draw(const Init& init, const Shape& shape, uint64_t seed, std::string_view name);

}  // namespace fovea::tensor
