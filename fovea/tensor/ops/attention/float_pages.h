// The keys and values of one sequence as float32 pages, a list for every KV head: what attention reads without a cache.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fovea/kernels/attention.h"
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

class FloatPages {
 public:
  // Rows of k and v lie `ld` floats apart, heads beside one another; widths are multiples of 8, positions rise.
  struct Rows {
    const float* data;
    int64_t ld;
    int dim;
  };
  FloatPages(int64_t n_kv_heads, const Rows& k, const Rows& v, std::span<const int32_t> positions);

  int k_dim() const { return k_dim_; }
  int v_dim() const { return v_dim_; }
  int64_t per_head() const { return per_head_; }
  std::span<const kernels::KeyBlock> of(int64_t kv_head) const {
    return std::span(blocks_).subspan(static_cast<size_t>(kv_head * per_head_), static_cast<size_t>(per_head_));
  }

 private:
  int k_dim_, v_dim_;
  int64_t per_head_;
  std::vector<int32_t> positions_;  // of the keys, then kNoPosition up to a whole page
  std::vector<kernels::KeyBlock> blocks_;
  Tensor held_;
};

}  // namespace fovea::tensor
