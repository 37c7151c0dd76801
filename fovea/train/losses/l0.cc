// l0: the share of what is masked that stays, by the probabilities of the masks: the mean of sigmoid(score /
// temperature).
#include "fovea/tensor/ops/ops.h"
#include "fovea/train/losses/loss.h"

namespace fovea::train {
namespace {

using tensor::Tensor;

class L0 final : public Loss {
 public:
  L0(Settings& settings, const Context& context) : Loss(settings), model_(*context.model) {
    if (model_.masks().empty()) settings.wrong("name", "is l0, and no masks are trained");
  }
  bool of_parameters() const override { return true; }
  int64_t count(const MicroBatch&) const override { return 0; }
  Tensor sum(const View&) const override {
    Tensor all;
    int64_t n = 0;
    for (const TrainedMask& mask : model_.masks()) {
      const Tensor one =
          tensor::sum(tensor::sigmoid(tensor::affine(mask.scores, static_cast<float>(1 / model_.mask_temperature()))));
      all = all.defined() ? tensor::add(all, one) : one;
      n += mask.scores.elements();
    }
    return tensor::affine(all, 1 / static_cast<float>(n));
  }

 private:
  const TrainedModel& model_;
};
FOVEA_TRAIN_PART(Loss, "l0", L0);

}  // namespace
}  // namespace fovea::train
