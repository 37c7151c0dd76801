// A gate on each head's output: z becomes value * z. 0 ablates the head (Michel et al., "Are Sixteen
// Heads Really Better than One?", arXiv:1905.10650, 2.2), 1 changes nothing.
#include "fovea/attention/method.h"

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
    head_dim_ = model.head_dim;
    return heads_.check(model);
  }

  bool edits_output(int layer, int head, bool) const override { return value_ != 1.0 && heads_.contains(layer, head); }

  void edit_output(const Call& view, int, float* z, int64_t ld) const override {
    const auto factor = static_cast<float>(value_);
    for (size_t i = 0; i < view.q_pos.size(); ++i) {
      for (int d = 0; d < head_dim_; ++d) z[static_cast<int64_t>(i) * ld + d] *= factor;
    }
  }

 private:
  double value_ = 1.0;
  HeadSet heads_ = HeadSet::all();
  int head_dim_ = 0;
};
FOVEA_REGISTER_METHOD(Scale);

}  // namespace
}  // namespace fovea::attention
