// Quest: a generated token reads the pages of keys that could matter most to it; nothing leaves the cache.
// Tang et al., "Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference", arXiv:2406.10774, sec. 3.
// Of a full page the least and the largest of each number of its keys are kept: sum_d max(q_d least_d, q_d largest_d)
// is no less than q.k of any of its keys, and the pages where it is highest are read, with the first and the last.
// Pages are those of the cache, 32 keys (the paper: 16). The query heads of a group read the same pages, by the maximum
// of their bounds, which bounds the highest score in the group: a page that one of them needs is not lost among the
// others, as it could be in a sum.
// Costs a float32 for each 16 of the keys' numbers, and each step reads those in place of the keys.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "fovea/attention/method.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/vector.h"

namespace fovea::attention {
namespace {

using kernels::kPageKeys;

class Quest final : public Method {
 public:
  static constexpr MethodInfo kInfo{.name = "quest",
                                    .title = "Quest",
                                    .paper = "arXiv:2406.10774, sec. 3",
                                    .stages = kChoose,
                                    .summary = "generated tokens read the pages of keys with the highest bound of q.k",
                                    .neutral = "budget=0",
                                    .example = "budget=32:dense_layers=0",
                                    .budgets = "budget={0.25} budget={0.1}"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("budget", budget_,
              {.min = 0,
               .max = 1 << 24,
               .help = "keys that a token reads, in pages of 32, the first and the last in any case; 0: all"});
    knobs.add("dense_layers", dense_layers_, {.min = 0, .max = 1 << 16, .help = "first layers, which read all keys"});
  }
  Status bind(const ModelShape& model) override {
    n_layers_ = static_cast<size_t>(model.n_layers);
    return {};
  }
  std::unique_ptr<SequenceState> begin_sequence() const override { return std::make_unique<Bounds>(n_layers_); }

  bool chooses(int layer) const override { return budget_ > 0 && layer >= dense_layers_; }
  void choose(const Call& call, const Queries& queries, KeyPlan& plan) const override {
    if (!call.decoding()) return;
    const auto most = static_cast<size_t>((budget_ + kPageKeys - 1) / kPageKeys);
    std::vector<std::shared_ptr<Bounds::Head>>& heads =
        static_cast<Bounds*>(call.state)->layers[static_cast<size_t>(call.layer)];
    heads.resize(static_cast<size_t>(plan.n_kv_heads()));
    for (size_t row = 1; row < call.q_pos.size(); ++row) plan.cut(static_cast<int64_t>(row));
    pool().for_each(plan.n_kv_heads(), [&](int64_t index, int) {
      const auto kv = static_cast<int>(index);
      if (plan.pages(kv).size() <= most) return;
      std::shared_ptr<Bounds::Head>& head = heads[static_cast<size_t>(kv)];
      take_up(call, plan, kv, head);
      for (int t = 0; t < plan.n_tiles(); ++t)
        narrow(call, queries.turned, plan.group(), kv, plan.pages(kv), *head, most, plan.tile(kv, t));
    });
  }

 private:
  // Of each full page, by its place in the cache. A pass that fails goes back to a clone, so that one is made in each
  // step: clones share what neither has changed.
  struct Bounds final : SequenceState {
    struct Head {
      std::vector<int32_t> positions;  // [pages, kPageKeys] of the keys that are summed up
      std::vector<float> bounds;       // [pages, 2, k_dim]: the largest, the least
    };
    std::vector<std::vector<std::shared_ptr<Head>>> layers;  // [n_layers][n_kv_heads]
    explicit Bounds(size_t n_layers) : layers(n_layers) {}
    std::unique_ptr<SequenceState> clone() const override { return std::make_unique<Bounds>(*this); }
    uint64_t bytes() const override {
      uint64_t sum = 0;
      for (const auto& heads : layers) {
        for (const auto& head : heads)
          sum += head ? head->positions.size() * sizeof(int32_t) + head->bounds.size() * sizeof(float) : 0;
      }
      return sum;
    }
    bool can_truncate(int32_t) const override { return true; }
    void truncate(int32_t n_tokens) override {  // other keys may come to the same positions
      for (auto& heads : layers) {
        for (std::shared_ptr<Head>& head : heads) {
          if (!head) continue;
          own(head);
          for (int32_t& position : head->positions) {
            if (position >= n_tokens) position = -1;
          }
        }
      }
    }
  };
  static void own(std::shared_ptr<Bounds::Head>& head) {
    if (!head || head.use_count() > 1)
      head = head ? std::make_shared<Bounds::Head>(*head) : std::make_shared<Bounds::Head>();
  }

  // Sums up the pages before the last that hold other keys than when they were summed up.
  static void take_up(const Call& call, const KeyPlan& plan, int kv, std::shared_ptr<Bounds::Head>& head) {
    const std::span<const KeyBlock> pages = plan.pages(kv);
    const auto d = static_cast<size_t>(call.model.site(call.layer).k_dim);
    std::vector<float> key(d);
    for (size_t page = 0; page + 1 < pages.size(); ++page) {
      const std::span<const int32_t> positions(pages[page].positions, kPageKeys);
      const size_t at = page * kPageKeys;
      if (head && at < head->positions.size() &&
          std::equal(positions.begin(), positions.end(), head->positions.begin() + static_cast<ptrdiff_t>(at)))
        continue;
      own(head);
      if (at >= head->positions.size()) {
        head->positions.resize((pages.size() - 1) * kPageKeys, -1);
        head->bounds.resize((pages.size() - 1) * 2 * d);
      }
      std::copy(positions.begin(), positions.end(), head->positions.begin() + static_cast<ptrdiff_t>(at));
      float *largest = head->bounds.data() + page * 2 * d, *least = largest + d;
      std::fill(largest, largest + d, -std::numeric_limits<float>::infinity());
      std::fill(least, least + d, std::numeric_limits<float>::infinity());
      for (int slot = 0; slot < kPageKeys; ++slot) {
        if (positions[static_cast<size_t>(slot)] == kernels::kNoPosition) continue;
        plan.read_key(pages[page], slot, key);
        for (size_t i = 0; i < d; ++i) {
          largest[i] = std::max(largest[i], key[i]);
          least[i] = std::min(least[i], key[i]);
        }
      }
    }
  }

  // Leaves a tile of one row the first page, the last, and the highest of the others, `most` in all.
  static void narrow(const Call& call, const tensor::Tensor& q, int group, int kv, std::span<const KeyBlock> pages,
                     const Bounds::Head& head, size_t most, KeyPlan::Tile& tile) {
    std::vector<char> reads(pages.size(), 0);
    for (const KeyPlan::Part& part : tile.parts) {
      const int32_t q_pos = call.q_pos[static_cast<size_t>(tile.first)];
      for (const KeyPlan::Page& page : part.pages) {
        if (static_cast<size_t>(page.index) >= pages.size()) continue;  // of another method's own
        char& here = reads[static_cast<size_t>(page.index)];
        for (const KeyRule& rule : part.rules) {
          if (!here)
            here =
                rule.window == KeyRule().window || seen_slots(rule, q_pos, pages[static_cast<size_t>(page.index)]) != 0;
        }
      }
    }
    std::vector<size_t> inner;
    for (size_t page = 0; page < reads.size(); ++page) {
      if (reads[page]) inner.push_back(page);
    }
    if (inner.size() <= most) return;
    inner.pop_back();
    if (inner.front() == 0) inner.erase(inner.begin());
    const size_t always = 1 + static_cast<size_t>(reads[0]), n = most > always ? most - always : 0;
    if (n >= inner.size()) return;

    const std::vector<float> highest = bounds_of(q, call.model.site(call.layer), group, kv, tile.first, head, inner);
    std::vector<size_t> order(inner.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::nth_element(order.begin(), order.begin() + static_cast<ptrdiff_t>(n), order.end(),
                     [&](size_t a, size_t b) { return highest[a] != highest[b] ? highest[a] > highest[b] : a < b; });
    for (size_t i = n; i < order.size(); ++i) reads[inner[order[i]]] = 0;
    for (KeyPlan::Part& part : tile.parts)
      std::erase_if(part.pages, [&](const KeyPlan::Page& page) {
        return static_cast<size_t>(page.index) < pages.size() && !reads[static_cast<size_t>(page.index)];
      });
  }
  // Of these pages, the maximum over the group's query heads.
  static std::vector<float> bounds_of(const tensor::Tensor& q, const AttentionShape& shape, int group, int kv,
                                      int64_t row, const Bounds::Head& head, std::span<const size_t> pages) {
    const auto d = static_cast<size_t>(shape.k_dim), width = 2 * d, n_heads = static_cast<size_t>(group);
    // Of each query what is above 0, which meets the largest; what is below.
    std::vector<float> halves(n_heads * width);
    for (size_t g = 0; g < n_heads; ++g) {
      const float* from = q.data() + (row * shape.n_heads + int64_t{kv} * group) * shape.k_dim + g * d;
      for (size_t i = 0; i < d; ++i) {
        halves[g * width + i] = std::max(from[i], 0.0f);
        halves[g * width + d + i] = std::min(from[i], 0.0f);
      }
    }
    std::vector<float> out(pages.size(), -std::numeric_limits<float>::infinity());
    for (size_t i = 0; i < pages.size(); ++i) {
      const float* bounds = head.bounds.data() + pages[i] * width;
      for (size_t g = 0; g < n_heads; ++g) {
        const float bound = kernels::dot(halves.data() + g * width, bounds, static_cast<int64_t>(width));
        out[i] = std::isnan(bound) ? std::numeric_limits<float>::infinity() : std::max(out[i], bound);
      }
    }
    return out;
  }

  int budget_ = 1024, dense_layers_ = 2;
  size_t n_layers_ = 0;
};
FOVEA_REGISTER_METHOD(Quest);

}  // namespace
}  // namespace fovea::attention
