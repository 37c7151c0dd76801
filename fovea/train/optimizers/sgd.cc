// SGD with momentum, as PyTorch has it: b = momentum b + g,  w -= lr b;  with `nesterov` w -= lr (g + momentum b).
// In the first step b is g; weight_decay, 0 by default, is added to the gradient.
#include "fovea/train/optimizer.h"

namespace fovea::train {
namespace {

class Sgd final : public Optimizer {
 public:
  explicit Sgd(Settings& settings)
      : Optimizer(settings, 0.1),
        momentum_(static_cast<float>(settings.number("momentum", 0, 0, 1))),
        nesterov_(settings.flag("nesterov", false)),
        decay_(settings, 0) {
    if (nesterov_ && momentum_ == 0) settings.wrong("nesterov", "is true without a momentum");
  }
  std::vector<std::string_view> slots(const Param&) const override {
    return momentum_ > 0 ? std::vector<std::string_view>{"b"} : std::vector<std::string_view>{};
  }
  void update(const Param& param, const tensor::Tensor& gradient, std::span<tensor::Tensor> slots,
              const Step& step) const override {
    tensor::Tensor value = param.value;
    float* w = value.data();
    const float* from = gradient.data();
    float* b = slots.empty() ? nullptr : slots[0].data();
    const auto rate = static_cast<float>(lr() * step.factor), scale = static_cast<float>(step.scale),
               l2 = static_cast<float>(decay_.of(param));
    for_elements(value.elements(), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float g = from[i] * scale + l2 * w[i];
        if (b) {
          b[i] = momentum_ * b[i] + g;
          g = nesterov_ ? g + momentum_ * b[i] : b[i];
        }
        w[i] -= rate * g;
      }
    });
  }

 private:
  float momentum_;
  bool nesterov_;
  Decay decay_;
};
FOVEA_TRAIN_PART(Optimizer, "sgd", Sgd);

}  // namespace
}  // namespace fovea::train
