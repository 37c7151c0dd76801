#include "fovea/tensor/ops/attention/float_pages.h"

#include <algorithm>

#include "fovea/tensor/ops/for_rows.h"

namespace fovea::tensor {

using kernels::kPageKeys;

FloatPages::FloatPages(int64_t n_kv_heads, const Rows& k, const Rows& v, std::span<const int32_t> positions)
    : k_dim_(k.dim), v_dim_(v.dim), per_head_((static_cast<int64_t>(positions.size()) + kPageKeys - 1) / kPageKeys) {
  constexpr auto kFloats = kernels::KvType::kF32;
  const auto n_keys = static_cast<int64_t>(positions.size());
  const auto k_floats = static_cast<int64_t>(kernels::key_bytes(kFloats, k.dim) / sizeof(float));
  const int64_t floats = k_floats + static_cast<int64_t>(kernels::value_bytes(kFloats, v.dim) / sizeof(float));
  positions_.assign(static_cast<size_t>(per_head_ * kPageKeys), kernels::kNoPosition);
  std::copy(positions.begin(), positions.end(), positions_.begin());
  held_ = Tensor::empty({n_kv_heads * per_head_, floats});
  blocks_.resize(static_cast<size_t>(n_kv_heads * per_head_));
  for_rows(n_kv_heads * per_head_, floats, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t head = i / per_head_, first = i % per_head_ * kPageKeys;
      const int n = static_cast<int>(std::min<int64_t>(kPageKeys, n_keys - first));
      float* page = held_.data() + i * floats;
      if (n < kPageKeys) std::fill_n(page, floats, 0.0f);
      for (int slot = 0; slot < n; ++slot) {
        kernels::key_write(page, kFloats, k.dim, slot, k.data + (first + slot) * k.ld + head * k.dim);
        kernels::value_write(page + k_floats, kFloats, v.dim, slot, v.data + (first + slot) * v.ld + head * v.dim);
      }
      blocks_[static_cast<size_t>(i)] = {page, page + k_floats, positions_.data() + first};
    }
  });
}

}  // namespace fovea::tensor
