// MoA: each KV head sees the first block of keys and a window that grows with the text by the head's own rule; what is
// older leaves its cache.
// Fu et al., "MoA: Mixture of Sparse Attention for Automatic Large Language Model Compression", arXiv:2406.14909,
// sec. 3 and 4.
//   S(N) = alpha + beta N keys, the first block among them, in whole blocks, from two blocks to N; beta = 1 with
//   alpha >= 0 keeps every key.
// N is the length of the text with the prompt that is read, and `reserve` tokens besides (the paper: 1024, as many as
// it makes room for): fixed once a prompt, since a span that grew while decoding would want keys that are gone. With
// the next prompt of a conversation the spans grow; what has left stays away. Positions stay those of the text. Rules
// are of KV heads, so that the query heads of a group drop the same keys, and windows are of keys, where the paper's
// kernel has whole blocks. The plan is that of `fovea profile --measure moa`.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "fovea/attention/method.h"
#include "fovea/base/random.h"

namespace fovea::attention {
namespace {

class Moa final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "moa",
      .title = "MoA",
      .paper = "arXiv:2406.14909, sec. 3",
      .stages = kChoose | kKeep,
      .needs = "moa_alpha:plan moa_beta:plan",
      .summary =
          "the first keys and a window of its own for each KV head, as long as its rule says for the prompt; the "
          "rest leaves the cache",
      .neutral = "alpha=0:beta=1",
      .example = "alpha=-16:beta=0.25:block=2",
      .more_examples = "plan=profile:block=4 alpha=8:beta=0:block=2",
      .exceptions =
          "chunks~2e-1: dropped keys (sec. 3) move page borders, so sums are cut elsewhere by about 1e-5, and in fast "
          "that moves some activation by one int8 code",
      .budgets = "plan=profile"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("plan", plan_, {"knobs", "profile"},
              {.help = "rules of all heads: `alpha` and `beta`, or each head's own of the head profile"});
    knobs.add("alpha", alpha_, {.min = -1e9, .max = 1e9, .help = "keys of a span, besides its share of the text"});
    knobs.add("beta", beta_, {.min = 0, .max = 1, .help = "share of the text"});
    knobs.add("block", block_,
              {.min = 0,
               .max = 1 << 16,
               .help = "first keys, always visible; spans are multiples. 0: that of the profile's plan, else 64"});
    knobs.add("reserve", reserve_, {.min = 0, .max = 1 << 24, .help = "tokens that count besides the prompt's"});
    knobs.add(
        "control", control_, {"none", "uniform", "shuffle", "random"},
        {.help = "of the plan: the mean rule for all heads, or rules that changed places within layers, or in all"});
    knobs.add("seed", seed_, {.min = 0, .help = "of shuffle and random"});
  }

  Status bind(const ModelShape& model) override {
    n_kv_heads_ = static_cast<size_t>(model.n_kv_heads);
    const auto n_layers = static_cast<size_t>(model.n_layers);
    rules_.assign(n_layers * n_kv_heads_, {alpha_, beta_});
    if (plan_ == kProfile) {
      const auto* alphas = model.profile->find("moa_alpha", Granularity::kKvHead);
      const auto* betas = model.profile->find("moa_beta", Granularity::kKvHead);
      if (!alphas || !betas || alphas->size() != rules_.size() || betas->size() != rules_.size())
        return make_error(ErrorCode::kUsage, "plan=profile: the head profile holds no rules for the {} KV heads",
                          rules_.size());
      for (size_t i = 0; i < rules_.size(); ++i) rules_[i] = {(*alphas)[i], (*betas)[i]};
      const auto* block = model.profile->find("moa_block", Granularity::kModel);
      if (block_ == 0 && block && !block->empty()) block_ = static_cast<int>(std::clamp((*block)[0], 1.0, 65536.0));
    }
    if (block_ == 0) block_ = 64;
    Rng random(static_cast<uint64_t>(seed_));
    const auto shuffle = [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) std::swap(rules_[i], rules_[i + random.below(end - i)]);
    };
    if (control_ == kUniform) {
      Rule mean;
      for (const Rule& rule : rules_) mean.alpha += rule.alpha, mean.beta += rule.beta;
      const auto n = static_cast<double>(rules_.size());
      rules_.assign(rules_.size(), {mean.alpha / n, mean.beta / n});
    }
    if (control_ == kRandom) shuffle(0, rules_.size());
    for (size_t layer = 0; control_ == kShuffle && layer < n_layers; ++layer)
      shuffle(layer * n_kv_heads_, (layer + 1) * n_kv_heads_);
    return {};
  }

  bool chooses(int layer) const override {
    for (int kv = 0; kv < static_cast<int>(n_kv_heads_); ++kv) {
      if (!of(layer, kv).keeps_all()) return true;
    }
    return false;
  }
  void choose(const Call& call, const Queries&, KeyPlan& plan) const override {
    for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
      if (of(call.layer, kv).keeps_all()) continue;
      for (int g = 0; g < plan.group(); ++g)
        plan.narrow(kv, g, {block_, window(call, kv), call.model.site(call.layer).ahead()});
    }
  }

  void keep(const Call& call, KvCache& cache) const override {
    const int32_t next = call.q_pos.back() + 1;  // the next row sees no older key than next + 1 - window, but the first
    for (int kv = 0; kv < call.model.site(call.layer).n_kv_heads(); ++kv) {
      if (!of(call.layer, kv).keeps_all())
        cache.drop(call.sequence, call.layer, kv, block_, next + 1 - window(call, kv));
    }
  }
  int64_t max_keys(int layer, int kv_head) const override {
    const Rule& rule = of(layer, kv_head);
    return rule.beta == 0 ? span(rule, std::numeric_limits<int32_t>::max()) - 1 : Method::max_keys(layer, kv_head);
  }

 private:
  enum Plan { kKnobs, kProfile };
  enum Control { kNone, kUniform, kShuffle, kRandom };
  struct Rule {
    double alpha = 0, beta = 0;
    bool keeps_all() const { return beta >= 1 && alpha >= 0; }
  };

  const Rule& of(int layer, int kv) const {
    return rules_[static_cast<size_t>(layer) * n_kv_heads_ + std::min(static_cast<size_t>(kv), n_kv_heads_ - 1)];
  }
  int64_t span(const Rule& rule, int64_t n_text) const {
    const double wanted = std::min(rule.alpha + rule.beta * static_cast<double>(n_text), static_cast<double>(n_text));
    const auto blocks = static_cast<int64_t>(std::floor(wanted / block_));
    return std::max<int64_t>(2, blocks) * block_;
  }
  int32_t window(const Call& call, int kv) const {
    const int64_t keys = span(of(call.layer, kv), int64_t{call.n_prompt} + reserve_) - block_;
    return static_cast<int32_t>(std::min<int64_t>(keys, KeyRule().window - 1));
  }

  int plan_ = kKnobs;
  double alpha_ = 0, beta_ = 0.5;
  int block_ = 0, reserve_ = 0, control_ = kNone, seed_ = 0;
  size_t n_kv_heads_ = 1;
  std::vector<Rule> rules_;  // [n_layers, n_kv_heads]
};
FOVEA_REGISTER_METHOD(Moa);

}  // namespace
}  // namespace fovea::attention
