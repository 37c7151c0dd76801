// A learned gate on each query head's output: z becomes gate * z. Trained alone it says which heads a task needs; the
// gradient at 1 is the head importance of Michel et al., "Are Sixteen Heads Really Better than One?",
// arXiv:1905.10650, sec. 2.2 and 4.1 (there the gates are read, not trained).
// `scale` sets such gates by hand; masks of `fovea train` are gates that are open or shut.
#include "fovea/attention/method.h"
#include "fovea/tensor/ops/math/binary.h"
#include "fovea/tensor/ops/shape/view.h"

namespace fovea::attention {
namespace {

class HeadGate final : public Method {
 public:
  static constexpr MethodInfo kInfo{.name = "head-gate",
                                    .title = "Learned head gates",
                                    .paper = "arXiv:1905.10650, sec. 2.2",
                                    .stages = kGate,
                                    .summary = "multiplies the output of each head with a weight that training fits",
                                    .neutral = "start=1",
                                    .example = "start=0.5"};
  const MethodInfo& info() const override { return kInfo; }
  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("start", start_, {.min = -1000, .max = 1000, .help = "gates where the model's file has none"});
  }
  Status bind(const ModelShape& model) override {
    for (int layer = 0; layer < model.n_layers; ++layer) n_heads_.push_back(model.site(layer).n_heads);
    gates_.resize(n_heads_.size());
    return {};
  }
  std::vector<tensor::Parameter> parameters() override {
    std::vector<tensor::Parameter> table;
    for (size_t layer = 0; layer < gates_.size(); ++layer)
      table.push_back({"layer." + std::to_string(layer),
                       "",
                       {n_heads_[layer]},
                       &gates_[layer],
                       tensor::Init::constant(static_cast<float>(start_))});
    return table;
  }
  bool gates(int, bool) const override { return true; }
  void gate(const Call& call, tensor::Tensor& z) const override {
    const tensor::Tensor gates = tensor::weight_values(gates_[static_cast<size_t>(call.layer)]);
    z = tensor::mul_spread(z, tensor::reshape(gates, {gates.elements(), 1}));
  }

 private:
  double start_ = 1;
  std::vector<int64_t> n_heads_;
  std::vector<tensor::Weight> gates_;  // of each layer, [n_heads]
};
FOVEA_REGISTER_METHOD(HeadGate);

}  // namespace
}  // namespace fovea::attention
