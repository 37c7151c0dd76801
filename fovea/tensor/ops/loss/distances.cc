#include "fovea/tensor/ops/loss/distances.h"

#include "fovea/base/check.h"
#include "fovea/tensor/ops/math/binary.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/ops/reduce/reduce.h"
#include "fovea/tensor/ops/train/stop_gradient.h"

namespace fovea::tensor {
namespace {

void check(const Tensor& a, const Tensor& b, std::string_view op) {
  FOVEA_CHECK(a.shape() == b.shape(), "{}: shapes {} and {} differ", op, a.shape().to_string(), b.shape().to_string());
}

}  // namespace

Tensor squared_error(const Tensor& x, const Tensor& target) {
  check(x, target, "squared_error");
  return sum(square(sub(x, target)));
}

Tensor absolute_error(const Tensor& x, const Tensor& target) {
  check(x, target, "absolute_error");
  return sum(abs(sub(x, target)));
}

// log(1 + e^x) - target x
Tensor binary_cross_entropy(const Tensor& logits, const Tensor& target) {
  check(logits, target, "binary_cross_entropy");
  return sum(sub(softplus(logits), mul_spread(logits, stop_gradient(target))));
}

Tensor kl_divergence(const Tensor& log_p, const Tensor& log_q) {
  check(log_p, log_q, "kl_divergence");
  return sum(mul_spread(exp(log_p), sub(log_p, log_q)));
}

}  // namespace fovea::tensor
