// A learned temperature of each query head: its scores are multiplied with a weight, so that training makes the head
// sharper or flatter. Liu et al., "Swin Transformer V2", arXiv:2111.09883, sec. 3.2, have such a scalar for each head
// and layer over cosines; here it stands over the model's own scaled scores, and 1 changes nothing.
#include "fovea/methods/learn/head_weights.h"
#include "fovea/tensor/ops/math/binary.h"

namespace fovea::attention {
namespace {

class HeadTemperature final : public HeadWeights {
 public:
  static constexpr MethodInfo kInfo{.name = "head-temperature",
                                    .title = "Learned head temperatures",
                                    .paper = "arXiv:2111.09883, sec. 3.2",
                                    .stages = kInputs,
                                    .summary = "multiplies the scores of each head with a weight that training fits",
                                    .neutral = "start=1",
                                    .example = "start=0.5"};
  const MethodInfo& info() const override { return kInfo; }

  bool edits_inputs(int) const override { return true; }
  void edit_inputs(const Call& call, Inputs& in) const override {
    in.q = tensor::mul_spread(in.q, weights(call.layer));
  }
};
FOVEA_REGISTER_METHOD(HeadTemperature);

}  // namespace
}  // namespace fovea::attention
