// Masks retrieval heads while decoding, as the causal test of Wu et al., "Retrieval Head
// Mechanistically Explains Long-Context Factuality", arXiv:2404.15574, sec. 4.1: the scores of a masked
// head become zero before softmax, so that it attends uniformly (`uniform`, the authors' code), or its
// output becomes zero (`zero`). The prompt is read with every head. Detection is in probe/.
// Not done here: mean ablation. Differs: scores are zeroed before the causal mask, so that nothing of
// the future leaks.
#include <cmath>
#include <limits>
#include <vector>

#include "fovea/attention/method.h"

namespace fovea::attention {
namespace {

class RetrievalHeads final : public Method {
 public:
  static constexpr MethodInfo kInfo{.name = "retrieval-heads",
                                    .paper = "arXiv:2404.15574, sec. 4.1",
                                    .stages = kScore | kGate,
                                    .needs = kHeadProfile,
                                    .summary = "masks the top retrieval heads (or chosen ones) while decoding"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("mask_top", mask_top_, {.min = 0, .max = 1 << 20, .help = "how many of the best retrieval heads to mask"});
    knobs.add("heads", heads_, {.help = "heads to mask besides: 3-9 (layers), 4.11 (one head), joined by +"});
    knobs.add("mask_mode", mode_, {"uniform", "zero"}, {.help = "attend uniformly, or give zero"});
  }

  Status bind(const ModelShape& model) override {
    head_dim_ = model.head_dim;
    n_heads_ = model.n_heads;
    FOVEA_RETURN_IF_ERROR(heads_.check(model));
    masked_.assign(static_cast<size_t>(model.n_layers * model.n_heads), false);
    for (size_t id = 0; id < masked_.size(); ++id) {
      masked_[id] = heads_.contains(static_cast<int>(id) / n_heads_, static_cast<int>(id) % n_heads_);
    }
    if (mask_top_ == 0) return {};
    FOVEA_ASSIGN_OR_RETURN(const std::vector<int> top, top_heads(model, "retrieval", mask_top_));
    for (const int id : top) masked_[static_cast<size_t>(id)] = true;
    return {};
  }

  bool edits_rows(int layer, int head, bool decoding) const override { return mode_ == kUniform && masks(layer, head, decoding); }
  void edit_scores(const RowView&, std::span<float> scores) const override {
    for (float& score : scores) {
      if (score != -std::numeric_limits<float>::infinity()) score = 0;
    }
  }

  bool edits_output(int layer, int head, bool decoding) const override { return mode_ == kZero && masks(layer, head, decoding); }
  void edit_output(const LayerView& view, int, float* z, int64_t ld) const override {
    for (size_t i = 0; i < view.q_pos.size(); ++i) std::fill_n(z + static_cast<int64_t>(i) * ld, head_dim_, 0.0f);
  }

 private:
  enum Mode { kUniform, kZero };
  bool masks(int layer, int head, bool decoding) const { return decoding && masked_[static_cast<size_t>(layer * n_heads_ + head)]; }

  int mask_top_ = 0;
  HeadSet heads_ = HeadSet::none();
  int mode_ = kUniform;
  int head_dim_ = 0, n_heads_ = 0;
  std::vector<bool> masked_;
};
FOVEA_REGISTER_METHOD(RetrievalHeads);

}  // namespace
}  // namespace fovea::attention
