#include "fovea/models/support/pairing.h"

#include <string_view>

namespace fovea::models {

int64_t paired_row(int64_t row, const tensor::Parameter& p, tensor::RopePairing here, tensor::RopePairing there,
                   const Config& config) {
  bool turns = false;
  for (const std::string_view name : {"attn_q.weight", "attn_k.weight", "attn_q.bias", "attn_k.bias"})
    turns = turns || p.name.ends_with(name);
  if (!turns || here == there) return row;
  const int64_t width = config.shape.head_dim, half = width / 2;
  const int64_t head = row / width * width, at = row % width;
  return head + (there == tensor::RopePairing::kHalves ? at % 2 * half + at / 2 : at % half * 2 + at / half);
}

}  // namespace fovea::models
