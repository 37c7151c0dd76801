#include "fovea/tensor/ops/shape/view.h"

#include "fovea/base/check.h"

namespace fovea::tensor {

// A view has the same Tensor::id(), and gradients belong to ids: there is nothing to record.
Tensor reshape(const Tensor& x, const Shape& shape) { return x.with_shape(shape); }

Tensor split_heads(const Tensor& x, int64_t n_heads) {
  FOVEA_CHECK(x.shape().rank() == 2 && n_heads > 0 && x.dim(1) % n_heads == 0,
              "split_heads: shape {} does not split into {} heads", x.shape().to_string(), n_heads);
  return x.with_shape({x.dim(0), n_heads, x.dim(1) / n_heads});
}

Tensor merge_heads(const Tensor& x) {
  FOVEA_CHECK(x.shape().rank() == 3, "merge_heads: shape {}, wanted [n_tokens, n_heads, head_dim]",
              x.shape().to_string());
  return x.with_shape({x.dim(0), x.dim(1) * x.dim(2)});
}

}  // namespace fovea::tensor
