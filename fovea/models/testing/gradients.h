// For tests: the gradient of a loss by the weights of a family, against finite differences.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "fovea/tensor/exec.h"
#include "fovea/tensor/tape.h"
#include "fovea/tensor/tensor.h"

namespace fovea::models {

// Moving each weight along its gradient moves the loss by the gradient's norm.
inline void expect_gradients(std::vector<std::pair<std::string, tensor::Tensor>>& parameters,
                             const std::function<tensor::Tensor()>& compute_loss, double tolerance = 0.02) {
  tensor::Arena arena;  // before the tape, whose gradients live in it
  tensor::Tape tape;
  for (const auto& named : parameters) tape.watch(named.second);
  tensor::Exec taped{.arena = &arena, .tape = &tape};
  {
    tensor::ExecScope scope(taped);
    tape.backward(compute_loss());
  }
  tensor::Exec plain{.arena = &arena, .numerics = tensor::Numerics::kExact};
  tensor::ExecScope scope(plain);
  for (auto& [name, p] : parameters) {
    const tensor::Tensor& gradient = tape.grad(p);
    double squares = 0, size = 0;
    for (const float g : gradient.values()) squares += static_cast<double>(g) * g;
    for (const float x : p.values()) size += static_cast<double>(x) * x;
    const double norm = std::sqrt(squares);
    ASSERT_GT(norm, 0.0) << name << " has no gradient";
    // The step moves the loss by far more than its rounding (about 1e-6, and 1.5 times that in this difference), and
    // differences of fourth order keep what it costs under a percent.
    const double step = 0.002 * std::max(std::sqrt(size), 1.0);
    const std::vector<float> before(p.values().begin(), p.values().end());
    tensor::Tensor moved = p;  // shares the values
    const auto at = [&](double shift) {
      for (size_t j = 0; j < before.size(); ++j)
        moved.data()[j] = static_cast<float>(before[j] + shift * gradient.data()[j] / norm);
      return static_cast<double>(compute_loss().data()[0]);
    };
    const double right = at(step), left = at(-step), far_right = at(2 * step), far_left = at(-2 * step), here = at(0);
    std::copy(before.begin(), before.end(), moved.data());
    const double slope = (8 * (right - left) - far_right + far_left) / (12 * step);
    const double allowed = tolerance * norm + 1.5e-6 / step;
    // Where a clamp bends the loss within the step the two sides differ, and the one without the bend has the slope.
    const double from_right = (4 * right - far_right - 3 * here) / (2 * step),
                 from_left = (3 * here - 4 * left + far_left) / (2 * step);
    const bool bends = std::abs(slope - norm) > allowed && std::abs(from_right - from_left) > 2 * allowed;
    const double smooth = std::abs(from_right - norm) < std::abs(from_left - norm) ? from_right : from_left;
    EXPECT_NEAR(bends ? smooth : slope, norm, allowed) << name;
  }
}

}  // namespace fovea::models
