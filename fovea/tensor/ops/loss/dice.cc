#include "fovea/tensor/ops/loss/dice.h"

#include "fovea/base/check.h"
#include "fovea/tensor/ops/math/add.h"
#include "fovea/tensor/ops/math/binary.h"
#include "fovea/tensor/ops/math/mul.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/ops/reduce/reduce.h"
#include "fovea/tensor/ops/train/stop_gradient.h"

namespace fovea::tensor {

Tensor dice_loss(const Tensor& p, const Tensor& t, float smooth) {
  FOVEA_CHECK(p.shape().rank() == 2 && p.shape() == t.shape() && smooth >= 0, "dice_loss: {} and {}, smooth {}",
              p.shape().to_string(), t.shape().to_string(), smooth);
  const Tensor mask = stop_gradient(t);
  const Tensor both = affine(sum(mul(p, mask), 1), 2, smooth);
  const Tensor all = affine(add(sum(p, 1), sum(mask, 1)), 1, smooth);
  return affine(sum(div(both, all)), -1, static_cast<float>(p.dim(0)));
}

}  // namespace fovea::tensor
