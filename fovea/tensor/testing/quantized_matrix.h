// For tests: a Q8_0 matrix, blocks of 32 columns with a float16 scale (here a power of two) and 32 int8 codes.
#pragma once

#include <cstdint>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/tensor/weight.h"

namespace fovea::tensor {

struct QuantizedMatrix {
  std::vector<uint8_t> bytes;
  Weight weight;

  QuantizedMatrix(int64_t rows, int64_t cols, uint64_t seed) {
    Rng rng(seed);
    for (int64_t block = 0; block < rows * cols / 32; ++block) {
      const auto half = static_cast<uint16_t>((15 - 7 - rng.below(3)) << 10);  // 2^-7 .. 2^-9
      bytes.push_back(static_cast<uint8_t>(half & 0xff));
      bytes.push_back(static_cast<uint8_t>(half >> 8));
      for (int i = 0; i < 32; ++i) bytes.push_back(static_cast<uint8_t>(rng.below(255) - 127));
    }
    weight.name = "q8";
    weight.view = {.dtype = kernels::DType::kQ8_0, .rows = rows, .cols = cols, .data = bytes.data()};
  }
};

}  // namespace fovea::tensor
