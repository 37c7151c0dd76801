// A gate on each head's output: z becomes value * z. 0 ablates the head (Michel et al., "Are Sixteen
// Heads Really Better than One?", arXiv:1905.10650, 2.2), 1 changes nothing.
#include <algorithm>

#include "fovea/attention/method.h"
#include "fovea/tensor/ops/math/binary.h"

namespace fovea::attention {
namespace {

class Scale final : public Method {
 public:
  static constexpr MethodInfo kInfo{.name = "scale",
                                    .title = "Head scaling",
                                    .paper = "arXiv:1905.10650, sec. 2.2",
                                    .stages = kGate,
                                    .summary = "multiplies the output of chosen heads; 0 ablates them",
                                    .neutral = "value=1",
                                    .example = "value=0.5:heads=0.1+1"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("value", value_, {.min = -1000, .max = 1000, .help = "factor on z; 1 does nothing"});
    knobs.add("heads", heads_, {.help = "query heads: all, 3-9 (layers), 4.11 (one head), joined by +"});
  }

  Status bind(const ModelShape& model) override {
    FOVEA_RETURN_IF_ERROR(heads_.check(model));
    for (int layer = 0; layer < model.n_layers; ++layer) {
      const int n_heads = model.site(layer).n_heads;
      factors_.push_back(tensor::Tensor::empty({n_heads, 1}));
      for (int head = 0; head < n_heads; ++head)
        factors_.back().data()[head] = heads_.contains(layer, head) ? static_cast<float>(value_) : 1.0f;
      acts_.push_back(value_ != 1.0 && std::ranges::any_of(factors_.back().values(), [](float f) { return f != 1; }));
    }
    return {};
  }

  bool gates(int layer, bool) const override { return acts_[static_cast<size_t>(layer)]; }
  void gate(const Call& call, tensor::Tensor& z) const override {
    z = tensor::mul_spread(z, factors_[static_cast<size_t>(call.layer)]);
  }

 private:
  double value_ = 1.0;
  HeadSet heads_ = HeadSet::all();
  std::vector<tensor::Tensor> factors_;  // of each layer, [n_heads, 1]
  std::vector<bool> acts_;
};
FOVEA_REGISTER_METHOD(Scale);

}  // namespace
}  // namespace fovea::attention
