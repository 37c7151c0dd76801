// A learned temperature of each query head: its scores are multiplied with a weight, so that training makes the head
// sharper or flatter. Liu et al., "Swin Transformer V2", arXiv:2111.09883, sec. 3.2, have such a scalar for each head
// and layer over cosines; here it stands over the model's own scaled scores, and 1 changes nothing.
#include "fovea/attention/method.h"
#include "fovea/tensor/ops/math/binary.h"
#include "fovea/tensor/ops/shape/view.h"

namespace fovea::attention {
namespace {

class HeadTemperature final : public Method {
 public:
  static constexpr MethodInfo kInfo{.name = "head-temperature",
                                    .title = "Learned head temperatures",
                                    .paper = "arXiv:2111.09883, sec. 3.2",
                                    .stages = kInputs,
                                    .summary = "multiplies the scores of each head with a weight that training fits",
                                    .neutral = "start=1",
                                    .example = "start=0.5"};
  const MethodInfo& info() const override { return kInfo; }
  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("start", start_, {.min = -1000, .max = 1000, .help = "weights where the model's file has none"});
  }
  Status bind(const ModelShape& model) override {
    for (int layer = 0; layer < model.n_layers; ++layer) n_heads_.push_back(model.site(layer).n_heads);
    factors_.resize(n_heads_.size());
    return {};
  }
  std::vector<tensor::Parameter> parameters() override {
    std::vector<tensor::Parameter> table;
    for (size_t layer = 0; layer < factors_.size(); ++layer)
      table.push_back({"layer." + std::to_string(layer),
                       "",
                       {n_heads_[layer]},
                       &factors_[layer],
                       tensor::Init::constant(static_cast<float>(start_))});
    return table;
  }
  bool edits_inputs(int) const override { return true; }
  void edit_inputs(const Call& call, Inputs& in) const override {
    const tensor::Tensor factors = tensor::weight_values(factors_[static_cast<size_t>(call.layer)]);
    in.q = tensor::mul_spread(in.q, tensor::reshape(factors, {factors.elements(), 1}));
  }

 private:
  double start_ = 1;
  std::vector<int64_t> n_heads_;
  std::vector<tensor::Weight> factors_;  // of each layer, [n_heads]
};
FOVEA_REGISTER_METHOD(HeadTemperature);

}  // namespace
}  // namespace fovea::attention
