// Test helper: values and gradients have the same bits on any number of threads.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "fovea/base/threads.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {

// `compute` reads `inputs`, which should be large enough that the work is shared out (for_rows.h: 32k elements).
inline void expect_same_bits_on_any_threads(const std::vector<Tensor>& inputs, const std::function<Tensor()>& compute) {
  std::vector<std::vector<float>> first;
  for (const int threads : {1, 2, 3, 5}) {
    set_threads(threads);
    Tape tape;
    for (const Tensor& input : inputs) tape.watch(input);
    Exec exec{.tape = &tape};
    const ExecScope scope(exec);
    const Tensor y = compute();
    tape.backward(y, random_tensor(y.shape(), 98));
    std::vector<std::vector<float>> all = {{y.values().begin(), y.values().end()}};
    for (const Tensor& input : inputs) {
      const auto values = tape.grad(input).values();
      all.emplace_back(values.begin(), values.end());
    }
    if (threads == 1) first = all;
    for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], first[i]) << threads << " threads, tensor " << i;
  }
  set_threads(0);
}

}  // namespace fovea::tensor
