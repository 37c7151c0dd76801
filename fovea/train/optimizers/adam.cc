// Adam. Kingma & Ba, arXiv:1412.6980; weight_decay, 0 by default, is added to the gradient.
#include "fovea/train/optimizer.h"

namespace fovea::train {
namespace {

class Adam final : public Optimizer {
 public:
  explicit Adam(Settings& settings) : Optimizer(settings, 1e-3), moments_(settings), decay_(settings, 0) {}
  std::vector<std::string_view> slots(const Param&) const override { return {"m", "v"}; }
  void update(const Param& param, const tensor::Tensor& gradient, std::span<tensor::Tensor> slots,
              const Step& step) const override {
    moments_.update(param.value, gradient, slots, step.number, lr() * step.factor, step.scale, 1, decay_.of(param));
  }

 private:
  Moments moments_;
  Decay decay_;
};
FOVEA_TRAIN_PART(Optimizer, "adam", Adam);

}  // namespace
}  // namespace fovea::train
