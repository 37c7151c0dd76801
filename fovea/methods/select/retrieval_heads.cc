// Masks retrieval heads while decoding, as the causal test of Wu et al., "Retrieval Head Mechanistically
// Explains Long-Context Factuality", arXiv:2404.15574, sec. 4.1. The prompt is read with every head; while
// decoding, a masked head
//   uniform  has zeros for scores, so that it attends to every key equally (the authors' program);
//   zero     gives zero;
//   mean     gives the mean of its own outputs over the prompt tokens that its sequence has read so far
//            (all of them, those of a second prompt after decoding too; tokens fed by decoding do not count),
//            and zero while there are none. Summed in the order of the tokens in double.
// Detection is in probe/. Differs: scores are zeroed before the causal mask, so that nothing of the future
// leaks; the random control spares the best heads (the authors' program means to and does not).
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "fovea/attention/method.h"
#include "fovea/base/random.h"
#include "fovea/tensor/ops/math/binary.h"

namespace fovea::attention {
namespace {

class RetrievalHeads final : public Method {
 public:
  static constexpr MethodInfo kInfo{.name = "retrieval-heads",
                                    .title = "Retrieval heads",
                                    .paper = "arXiv:2404.15574, sec. 4.1",
                                    .stages = kScore | kGate,
                                    .needs = "retrieval:mask_top",
                                    .summary = "masks the top retrieval heads (or chosen ones) while decoding",
                                    .neutral = "mask_top=0:heads=none",
                                    .example = "heads=0.1+1",
                                    .more_examples = "heads=0.1+1:mask_mode=zero heads=0.1+1:mask_mode=mean",
                                    .exceptions = "gradient: scores are set and means are constants, sec. 4.1"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("mask_top", mask_top_,
              {.min = -(1 << 20),
               .max = 1 << 20,
               .help = "how many of the best retrieval heads to mask; -K: K random others, as a control"});
    knobs.add("heads", heads_, {.help = "heads to mask besides: 3-9 (layers), 4.11 (one head), joined by +"});
    knobs.add("mask_mode", mode_, {"uniform", "zero", "mean"},
              {.help = "attend uniformly, give zero, or give the head's mean over the prompt"});
    knobs.add("seed", seed_, {.min = 0, .help = "of the random control"});
  }

  Status bind(const ModelShape& model) override {
    n_heads_ = model.n_heads;
    FOVEA_RETURN_IF_ERROR(heads_.check(model));
    const int n_all = model.n_layers * model.n_heads;
    masked_.assign(static_cast<size_t>(n_all), false);
    for (int id = 0; id < n_all; ++id) masked_[static_cast<size_t>(id)] = heads_.contains(id / n_heads_, id % n_heads_);
    if (mask_top_ == 0) return {};
    const int n = std::abs(mask_top_);
    const int first = mask_top_ > 0 ? 0 : std::max(n, std::min(kNotRandom, n_all / 2));
    if (n > n_all - first) {
      return make_error(ErrorCode::kUsage, "knob mask_top is {}; this model has {} heads, of which {} can be taken",
                        mask_top_, n_all, mask_top_ > 0 ? n_all : n_all / 2);
    }
    FOVEA_ASSIGN_OR_RETURN(std::vector<int> ranked, top_heads(model, "retrieval", n_all));
    Rng random(static_cast<uint64_t>(seed_));
    const auto begin = static_cast<size_t>(first);
    for (size_t at = begin; at < begin + static_cast<size_t>(n);
         ++at) {  // the first n, or n of the rest without repetition
      if (mask_top_ < 0) std::swap(ranked[at], ranked[at + random.below(ranked.size() - at)]);
      masked_[static_cast<size_t>(ranked[at])] = true;
    }
    return {};
  }

  bool edits_rows(int layer, int head, bool decoding) const override {
    return mode_ == kUniform && masks(layer, head, decoding);
  }
  void edit_scores(const RowView&, std::span<float> scores) const override {
    for (float& score : scores) {
      if (score != -std::numeric_limits<float>::infinity()) score = 0;
    }
  }

  std::unique_ptr<SequenceState> begin_sequence() const override {
    if (mode_ != kMean || std::find(masked_.begin(), masked_.end(), true) == masked_.end()) return nullptr;
    return std::make_unique<PromptMeans>();
  }
  bool gates(int layer, bool decoding) const override {
    if (mode_ == kUniform || !(decoding || mode_ == kMean)) return false;
    for (int head = 0; head < n_heads_; ++head) {
      if (masks(layer, head, true)) return true;
    }
    return false;
  }
  void gate(const Call& call, tensor::Tensor& z) const override {
    const int64_t n = z.dim(0), width = z.dim(2), row = z.dim(1) * width;
    tensor::Tensor masked, instead;
    if (call.decoding()) masked = tensor::Tensor::zeros(z.shape()), instead = tensor::Tensor::zeros(z.shape());
    for (int head = 0; head < n_heads_; ++head) {
      if (!masks(call.layer, head, true)) continue;
      PromptMeans::OfHead* seen = nullptr;
      if (mode_ == kMean) {
        seen = &static_cast<PromptMeans&>(*call.state).heads[call.layer * n_heads_ + head];
        seen->sum.resize(static_cast<size_t>(width), 0.0);
      }
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t at = i * row + head * width, d = 0; d < width; ++d) {
          if (call.decoding()) {
            masked.data()[at + d] = 1;
            if (seen && seen->n > 0)
              instead.data()[at + d] =
                  static_cast<float>(seen->sum[static_cast<size_t>(d)] / static_cast<double>(seen->n));
          } else {
            seen->sum[static_cast<size_t>(d)] += z.data()[at + d];
          }
        }
      }
      if (!call.decoding()) seen->n += n;
    }
    if (call.decoding()) z = tensor::where(masked, instead, z);
  }

 private:
  static constexpr int kNotRandom = 100;  // the control spares this many of the best (at most half of all)
  enum Mode { kUniform, kZero, kMean };
  // What the masked heads gave for the prompt of one sequence.
  struct PromptMeans final : SequenceState {
    struct OfHead {
      std::vector<double> sum;
      int64_t n = 0;
    };
    std::map<int, OfHead> heads;  // by layer * n_heads + head
    std::unique_ptr<SequenceState> clone() const override { return std::make_unique<PromptMeans>(*this); }
  };
  bool masks(int layer, int head, bool decoding) const {
    return decoding && masked_[static_cast<size_t>(layer) * n_heads_ + head];
  }

  int mask_top_ = 0;
  HeadSet heads_ = HeadSet::none();
  int mode_ = kUniform;
  int seed_ = 0;
  int n_heads_ = 0;
  std::vector<bool> masked_;
};
FOVEA_REGISTER_METHOD(RetrievalHeads);

}  // namespace
}  // namespace fovea::attention
