// AdamW: Adam whose decay acts on the weights, not through the gradient. Loshchilov & Hutter, arXiv:1711.05101.
//   w -= lr weight_decay w before Adam's step; its numbers are PyTorch's where no setting says otherwise.
#include "fovea/train/optimizer.h"

namespace fovea::train {
namespace {

class AdamW final : public Optimizer {
 public:
  explicit AdamW(Settings& settings) : Optimizer(settings, 1e-3), moments_(settings), decay_(settings, 0.01) {}
  std::vector<std::string_view> slots(const Param&) const override { return {"m", "v"}; }
  void update(const Param& param, const tensor::Tensor& gradient, std::span<tensor::Tensor> slots,
              const Step& step) const override {
    const double lr = this->lr() * step.factor;
    moments_.update(param.value, gradient, slots, step.number, lr, step.scale, 1 - lr * decay_.of(param), 0);
  }

 private:
  Moments moments_;
  Decay decay_;
};
FOVEA_TRAIN_PART(Optimizer, "adamw", AdamW);

}  // namespace
}  // namespace fovea::train
