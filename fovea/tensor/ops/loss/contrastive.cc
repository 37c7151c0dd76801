#include "fovea/tensor/ops/loss/contrastive.h"

#include <numeric>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/loss/cross_entropy.h"
#include "fovea/tensor/ops/math/add.h"
#include "fovea/tensor/ops/math/binary.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/ops/product/batched.h"
#include "fovea/tensor/ops/reduce/reduce.h"

namespace fovea::tensor {

Tensor info_nce(const Tensor& a, const Tensor& b, const Tensor& scale) {
  FOVEA_CHECK(a.shape().rank() == 2 && a.shape() == b.shape() && a.dim(0) > 0 && scale.elements() == 1,
              "info_nce: {} and {} at a scale {}", a.shape().to_string(), b.shape().to_string(),
              scale.shape().to_string());
  const int64_t n = a.dim(0);
  const auto unit = [n](const Tensor& x) { return div(x, l2_norm(x, 1).with_shape({n, 1})); };
  const Tensor cosines = batched_product(unit(a), unit(b), {.b = true});
  std::vector<int32_t> own(static_cast<size_t>(n));
  std::iota(own.begin(), own.end(), 0);
  return cross_entropy(mul_spread(cosines, scale.with_shape({1})), own).sum;
}

Tensor contrastive_loss(const Tensor& a, const Tensor& b, const Tensor& scale) {
  return affine(add(info_nce(a, b, scale), info_nce(b, a, scale)), 0.5f / static_cast<float>(a.dim(0)));
}

}  // namespace fovea::tensor
