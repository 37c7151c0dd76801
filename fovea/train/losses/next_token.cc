// next-token: the cross-entropy of what follows, where something is wanted. The loss of a config that names none.
#include "fovea/tensor/ops/loss/cross_entropy.h"
#include "fovea/train/losses/loss.h"

namespace fovea::train {
namespace {

class NextToken final : public Loss {
 public:
  explicit NextToken(Settings& settings)
      : Loss(settings), smoothing_(static_cast<float>(settings.number("smoothing", 0, 0, 0.999))) {}
  int64_t count(const MicroBatch& batch) const override { return static_cast<int64_t>(batch.targets.size()); }
  tensor::Tensor sum(const View& view) const override {
    return tensor::cross_entropy(view.logits, view.batch.targets, smoothing_).sum;
  }

 private:
  float smoothing_;
};
FOVEA_TRAIN_PART(Loss, "next-token", NextToken);

}  // namespace
}  // namespace fovea::train
