// Test helper: the tape's gradients against finite differences.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/base/testing/sanitized.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/tape.h"
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

inline Tensor random_tensor(const Shape& shape, uint64_t seed, double deviation = 1.0) {
  Rng rng(seed);
  Tensor t = Tensor::empty(shape);
  for (int64_t i = 0; i < t.elements(); ++i) t.data()[i] = static_cast<float>(deviation * rng.normal());
  return t;
}

// `compute` reads `inputs` (whose values are moved and put back) and returns y. The loss is
// sum(r * y) with fixed random r, in double. Differences are of fourth order,
//   (f(-2h) - 8 f(-h) + 8 f(h) - f(2h)) / 12h,  h = 0.02,
// so the method's own error is about h^4 f'''''/30 < 1e-7 here; what is left is the float32 rounding
// of y, about 6e-8 |y| sqrt(n) / h: some 1e-5 per unit. Hence the tolerance of 3e-4 (1 + |gradient|).
inline void expect_gradients(std::vector<Tensor> inputs, const std::function<Tensor()>& compute) {
  Exec plain{.numerics = Numerics::kExact};
  Tensor r;
  const auto loss_value = [&] {
    ExecScope scope(plain);
    const Tensor y = compute();
    double sum = 0;
    for (int64_t i = 0; i < y.elements(); ++i) sum += static_cast<double>(r.data()[i]) * y.data()[i];
    return sum;
  };
  Tape tape;
  for (const Tensor& input : inputs) tape.watch(input);
  Exec taped{.tape = &tape};
  {
    ExecScope scope(taped);
    const Tensor y = compute();
    r = random_tensor(y.shape(), 99);
    Tensor loss = Tensor::zeros({1});
    tape.record(loss, {y}, [y, r, loss](Tape& t) {
      const float seed = t.grad(loss).data()[0];
      for (int64_t i = 0; i < y.elements(); ++i) t.grad(y).data()[i] += seed * r.data()[i];
    });
    tape.backward(loss);
  }
  constexpr float kStep = 0.02f;
  for (size_t k = 0; k < inputs.size(); ++k) {
    for (int64_t i = 0; i < inputs[k].elements(); i += every(7)) {
      float& x = inputs[k].data()[i];
      const float at = x;
      const auto moved = [&](float steps) {
        x = at + steps * kStep;
        const double value = loss_value();
        x = at;
        return value;
      };
      const double expected = (moved(-2) - 8 * moved(-1) + 8 * moved(1) - moved(2)) / (12.0 * kStep);
      const double actual = tape.grad(inputs[k]).data()[i];
      ASSERT_NEAR(actual, expected, 3e-4 * (1 + std::abs(expected))) << "input " << k << ", element " << i;
    }
  }
}

}  // namespace fovea::tensor
