// A learned gate on each query head's output: z becomes gate * z. Trained alone it says which heads a task needs; the
// gradient at 1 is the head importance of Michel et al., "Are Sixteen Heads Really Better than One?",
// arXiv:1905.10650, sec. 2.2 and 4.1 (there the gates are read, not trained).
// `scale` sets such gates by hand; masks of `fovea train` are gates that are open or shut.
#include "fovea/methods/learn/head_weights.h"
#include "fovea/tensor/ops/math/binary.h"

namespace fovea::attention {
namespace {

class HeadGate final : public HeadWeights {
 public:
  static constexpr MethodInfo kInfo{.name = "head-gate",
                                    .title = "Learned head gates",
                                    .paper = "arXiv:1905.10650, sec. 2.2",
                                    .stages = kGate,
                                    .summary = "multiplies the output of each head with a weight that training fits",
                                    .neutral = "start=1",
                                    .example = "start=0.5"};
  const MethodInfo& info() const override { return kInfo; }

  bool gates(int, bool) const override { return true; }
  void gate(const Call& call, tensor::Tensor& z) const override { z = tensor::mul_spread(z, weights(call.layer)); }
};
FOVEA_REGISTER_METHOD(HeadGate);

}  // namespace
}  // namespace fovea::attention
