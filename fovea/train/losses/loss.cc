#include "fovea/train/losses/loss.h"

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
  FOVEA_CHECK(temperature > 0, "contrastive_loss: a temperature of {}", temperature);
  const float scale = 1 / temperature;
  return tensor::contrastive_loss(a, b, Tensor::from({1}, {&scale, 1}));
}

}  // namespace fovea::train
