#include "fovea/train/losses/loss.h"

#include <numeric>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/ops.h"

namespace fovea::train {

using tensor::Tensor;

Tensor mean_squared_error(const Tensor& x, const Tensor& target) {
  return tensor::affine(tensor::squared_error(x, target), 1 / static_cast<float>(x.elements()));
}

Tensor class_loss(const Tensor& logits, std::span<const int32_t> labels, float smoothing) {
  return tensor::cross_entropy(logits, labels, smoothing).mean();
}

Tensor binary_loss(const Tensor& logits, const Tensor& target) {
  return tensor::affine(tensor::binary_cross_entropy(logits, target), 1 / static_cast<float>(logits.elements()));
}

Tensor contrastive_loss(const Tensor& a, const Tensor& b, float temperature) {
  FOVEA_CHECK(a.shape().rank() == 2 && a.shape() == b.shape() && temperature > 0,
              "contrastive_loss: {} and {} at a temperature of {}", a.shape().to_string(), b.shape().to_string(),
              temperature);
  const int64_t n = a.dim(0), width = a.dim(1);
  const auto unit = [&](const Tensor& x) { return tensor::div(x, tensor::reshape(tensor::l2_norm(x, 1), {n, 1})); };
  const auto rows = [&](const Tensor& x, const Tensor& y) {
    const Tensor product = tensor::batched_product(tensor::reshape(unit(x), {1, n, width}),
                                                   tensor::reshape(unit(y), {1, n, width}), {.b = true});
    std::vector<int32_t> own(static_cast<size_t>(n));
    std::iota(own.begin(), own.end(), 0);
    return tensor::cross_entropy(tensor::affine(tensor::reshape(product, {n, n}), 1 / temperature), own).mean();
  };
  return tensor::affine(tensor::add(rows(a, b), rows(b, a)), 0.5f);
}

}  // namespace fovea::train
