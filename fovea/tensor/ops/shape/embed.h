#pragma once
#include <cstdint>
#include <span>

#include "fovea/tensor/weight.h"

namespace fovea::tensor {
// Row tokens[i] of table [vocab_size, d_model], dequantised -> [n_tokens, d_model].
// A token id out of range is a caller's mistake.
Tensor embed(const Weight& table, std::span<const int32_t> tokens);
}  // namespace fovea::tensor
