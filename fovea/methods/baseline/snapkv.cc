// SnapKV: at the end of a prompt each KV head keeps the keys that the prompt's last rows look at most, with their
// neighbours, and those rows' own; the rest leaves the cache.
// Li et al., "SnapKV: LLM Knows What You are Looking for Before Generation", arXiv:2404.14469, sec. 4.
// Weights are added over the last `window` rows and the query heads of the group (the paper's code keeps keys for each
// query head, which stores them as often), smoothed along the text, and the highest stay. What stays is counted of the
// whole text, so that the prompts of a conversation take no share of a share.
#include <algorithm>
#include <cmath>
#include <vector>

#include "fovea/attention/key_sums.h"
#include "fovea/attention/method.h"
#include "fovea/base/threads.h"

namespace fovea::attention {
namespace {

class SnapKv final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "snapkv",
      .title = "SnapKV",
      .paper = "arXiv:2404.14469, sec. 4",
      .stages = kChoose | kKeep,
      .summary = "after a prompt, the keys that its last rows look at most; the rest leaves the cache",
      .neutral = "keep=1",
      .example = "keep=0.05:window=4:kernel=3",
      .more_examples = "budget=8:window=4:kernel=5:pool=max",
      .budgets = "keep=0.5 keep=0.25 keep=0.1",
      .pair = "keep=0.25"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("keep", keep_, {.min = 0, .max = 1, .help = "share of the text's keys that stays"});
    knobs.add("budget", budget_, {.min = 0, .max = 1 << 24, .help = "keys that stay; 0: by `keep`"});
    knobs.add("window", window_, {.min = 1, .max = 4096, .help = "last rows, which choose, and whose keys stay"});
    knobs.add("kernel", kernel_, {.min = 1, .max = 255, .help = "neighbouring keys that are smoothed over; odd"});
    knobs.add("pool", pool_, {"avg", "max"}, {.help = "how they are smoothed"});
  }
  Status bind(const ModelShape& model) override {
    if (kernel_ % 2 == 0) return make_error(ErrorCode::kUsage, "snapkv: kernel {} is even, it must be odd", kernel_);
    n_layers_ = static_cast<size_t>(model.n_layers);
    return {};
  }
  std::unique_ptr<SequenceState> begin_sequence() const override { return std::make_unique<LastRows>(n_layers_); }

  // Chooses nothing: it is where the queries are seen.
  bool chooses(int) const override { return drops(); }
  void choose(const Call& call, const Queries& queries, KeyPlan&) const override {
    if (call.decoding()) return;
    const tensor::Tensor& q = queries.turned;
    LastRows::Rows& rows = static_cast<LastRows*>(call.state)->layers[static_cast<size_t>(call.layer)];
    const auto n_new = std::min(call.q_pos.size(), static_cast<size_t>(window_));
    const size_t row = q.values().size() / call.q_pos.size(), most = static_cast<size_t>(window_) - n_new;
    if (const size_t held = rows.positions.size(); held > most) {
      rows.positions.erase(rows.positions.begin(), rows.positions.end() - static_cast<ptrdiff_t>(most));
      rows.q.erase(rows.q.begin(), rows.q.end() - static_cast<ptrdiff_t>(most * row));
    }
    const auto last = call.q_pos.last(n_new);
    const auto values = q.values().last(n_new * row);
    rows.positions.insert(rows.positions.end(), last.begin(), last.end());
    rows.q.insert(rows.q.end(), values.begin(), values.end());
  }

  void keep(const Call& call, KvCache& cache) const override {
    if (call.phase != Phase::kPromptEnd || !drops()) return;
    const LastRows::Rows& rows = static_cast<LastRows*>(call.state)->layers[static_cast<size_t>(call.layer)];
    const AttentionShape shape = call.model.site(call.layer);
    const int n_kv_heads = shape.n_kv_heads();
    const int64_t n_text = int64_t{call.q_pos.back()} + 1;
    const size_t n_stay = n_kept(keep_, budget_, n_text);
    std::vector<std::vector<int32_t>> kept(static_cast<size_t>(n_kv_heads));
    pool().for_each(n_kv_heads, [&](int64_t kv, int) {
      const KeySums looked =
          key_sums(cache, call.sequence, shape, call.layer, static_cast<int>(kv), rows.q.data(), rows.positions);
      kept[static_cast<size_t>(kv)] = best(looked, rows.positions.front(), n_stay);
    });
    for (int kv = 0; kv < n_kv_heads; ++kv)
      retain_only(cache, call.sequence, call.layer, kv, kept[static_cast<size_t>(kv)]);
  }

 private:
  enum Pool { kAvg, kMax };
  struct LastRows final : SequenceState {
    struct Rows {
      std::vector<int32_t> positions;
      std::vector<float> q;  // [rows, n_heads, k_dim]
    };
    std::vector<Rows> layers;
    explicit LastRows(size_t n_layers) : layers(n_layers) {}
    std::unique_ptr<SequenceState> clone() const override { return std::make_unique<LastRows>(*this); }
  };

  bool drops() const { return budget_ > 0 || keep_ < 1; }
  // The positions that stay, rising: those from `first_row` on, and the highest of the others up to n_stay in all.
  std::vector<int32_t> best(const KeySums& looked, int32_t first_row, size_t n_stay) const {
    const std::vector<int32_t>& positions = looked.positions;
    const auto n_old =
        static_cast<size_t>(std::lower_bound(positions.begin(), positions.end(), first_row) - positions.begin());
    const size_t n_rows = positions.size() - n_old, n = std::min(n_old, n_stay > n_rows ? n_stay - n_rows : 0);
    const std::vector<float> smooth = smoothed(std::span(looked.sums).first(n_old));
    std::vector<int32_t> stay = highest(std::span(positions).first(n_old), smooth, n);
    stay.insert(stay.end(), positions.begin() + static_cast<ptrdiff_t>(n_old), positions.end());
    return stay;
  }
  // Beyond both ends are zeros.
  std::vector<float> smoothed(std::span<const float> sums) const {
    const auto n = static_cast<int64_t>(sums.size()), half = int64_t{kernel_} / 2;
    std::vector<float> out(sums.size());
    for (int64_t i = 0; i < n; ++i) {
      float sum = 0, most = 0;
      for (int64_t j = std::max<int64_t>(0, i - half); j <= std::min(n - 1, i + half); ++j) {
        sum += sums[static_cast<size_t>(j)];
        most = std::max(most, sums[static_cast<size_t>(j)]);
      }
      out[static_cast<size_t>(i)] = pool_ == kAvg ? sum / static_cast<float>(kernel_) : most;
    }
    return out;
  }

  double keep_ = 0.5;
  int budget_ = 0;
  int window_ = 64, kernel_ = 5, pool_ = kAvg;
  size_t n_layers_ = 0;
};
FOVEA_REGISTER_METHOD(SnapKv);

}  // namespace
}  // namespace fovea::attention
