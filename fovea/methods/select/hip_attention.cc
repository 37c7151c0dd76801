// HiP attention: for each block of queries and each head a binary tree search over the keys finds the k that are read,
// beside the first ones and a sliding window; nothing leaves the cache.
// Lee et al., "HiP Attention: Sparse Sub-Quadratic Attention with Hierarchical Attention Pruning", arXiv:2406.09827,
// sec. 3; the integer tree and the centre as representative are those of the ICLR 2025 version.
// Keys are kept in blocks of a page, 32 (the paper: 2): a page that is read costs the same, whatever rows see of it.
// Smaller blocks hide the other keys of their page and save less. A page is scored with all its keys at once, so
// smaller blocks of one page are known together.
#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "fovea/attention/head_pages.h"
#include "fovea/attention/method.h"
#include "fovea/base/threads.h"
#include "fovea/methods/select/tree_search.h"

namespace fovea::attention {
namespace {

using kernels::kPageKeys;

class HipAttention final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "hip-attention",
      .title = "HiP Attention",
      .paper = "arXiv:2406.09827, sec. 3",
      .stages = kChoose,
      .summary = "a tree search finds the k keys that a block of queries reads, in O(log n) scores",
      .neutral = "k=16777216",
      .example = "k=16:block_q=2:block_k=4:window=1:n_sink=0:dense_layers=0",
      .more_examples =
          "k=4:block_q=1:block_k=1:window=1:n_sink=2:dense_layers=0:refresh=1:representative=first "
          "k=8:block_q=2:block_k=8:window=1:n_sink=0:dense_layers=0:per_head=off",
      .exceptions =
          "causal: the rows of a block of queries share the keys that the highest of their scores finds "
          "(sec. 3.2); chunks: a block that is read in parts is searched with the rows that are there "
          "(sec. 3.2)",
      .budgets = "k={0.25}:window={0.05} k={0.1}:window={0.05}"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("k", k_, {.min = 1, .max = 1 << 24, .help = "keys that are found, beside sinks and window"});
    knobs.add("block_q", block_q_, {"1", "2", "4", "8", "16", "32", "64"}, {.help = "queries that share them"});
    knobs.add("block_k", block_k_, {"1", "2", "4", "8", "16", "32"}, {.help = "neighbouring keys, found together"});
    knobs.add("stride_q", stride_q_, {.min = 1, .max = 64, .help = "every so manieth query of a block is scored"});
    knobs.add("representative", representative_, {"first", "center", "max"},
              {.help = "the block of a chunk that is scored; max: all of them, exact and slow"});
    knobs.add("window", window_, {.min = 1, .max = 1 << 24, .help = "last keys, always read"});
    knobs.add("n_sink", n_sink_, {.min = 0, .max = 1 << 24, .help = "first keys, always read"});
    knobs.add("dense_layers", dense_layers_, {.min = 0, .max = 1 << 16, .help = "first layers, which read all keys"});
    knobs.add("refresh", refresh_, {.min = 1, .max = 1 << 24, .help = "generated tokens that reuse what was found"});
    knobs.add("per_head", per_head_,
              {.help = "whether each query head has keys of its own, or a KV head's share them"});
  }
  Status bind(const ModelShape& model) override {
    n_layers_ = static_cast<size_t>(model.n_layers);
    return {};
  }
  std::unique_ptr<SequenceState> begin_sequence() const override { return std::make_unique<Masks>(n_layers_); }

  bool chooses(int layer) const override { return layer >= dense_layers_; }
  void choose(const Call& call, const Queries& queries, KeyPlan& plan) const override {
    if (!call.model.site(call.layer).causal) return;
    if (call.decoding()) return choose_rows(call, queries, plan);
    cut_at_multiples(plan, 1 << block_q_);
    plan.edit_tiles([&](int kv, KeyPlan::Tile& tile) {
      const std::vector<int32_t> inner = inner_pages(plan, kv, tile, call.q_pos[static_cast<size_t>(tile.first)]);
      if (!fits(inner)) keep_keys(plan, tile, inner, search(call, queries, plan, kv, tile, inner));
    });
  }

 private:
  using Bits = std::vector<uint32_t>;  // of each page that is searched, the keys that are read

  // What generated tokens reuse: of each query head the pages, by their first key, that the search left.
  struct Masks final : SequenceState {
    struct Page {
      int32_t first;
      uint32_t bits;
    };
    struct Layer {
      int32_t at = -1;                       // the row that searched
      std::vector<std::vector<Page>> heads;  // of each list of keep_keys, KV head by KV head
    };
    std::vector<std::shared_ptr<const Layer>> layers;  // shared by clones, one of which is made in each step
    explicit Masks(size_t n_layers) : layers(n_layers) {}
    std::unique_ptr<SequenceState> clone() const override { return std::make_unique<Masks>(*this); }
    bool can_truncate(int32_t n_tokens) const override {
      return std::all_of(layers.begin(), layers.end(),
                         [&](const auto& layer) { return !layer || layer->at < n_tokens; });
    }
  };

  // Generated tokens: row by row, since a search serves the rows after it.
  void choose_rows(const Call& call, const Queries& queries, KeyPlan& plan) const {
    std::shared_ptr<const Masks::Layer>& held =
        static_cast<Masks*>(call.state)->layers[static_cast<size_t>(call.layer)];
    for (size_t row = 1; row < call.q_pos.size(); ++row) plan.cut(static_cast<int64_t>(row));
    const auto n_kv = static_cast<size_t>(plan.n_kv_heads()), n_lists = static_cast<size_t>(lists(plan));
    for (int t = 0; t < plan.n_tiles(); ++t) {
      const int32_t q_pos = call.q_pos[static_cast<size_t>(plan.first_row(t))];
      const bool reuses = refresh_ > 1 && held && q_pos > held->at && q_pos - held->at < refresh_;
      const int32_t from = reuses ? held->at : q_pos;  // what left the window since then stays
      auto found = reuses ? nullptr : std::make_shared<Masks::Layer>();
      if (found) found->at = q_pos, found->heads.resize(n_kv * n_lists);
      pool().for_each(plan.n_kv_heads(), [&](int64_t index, int) {
        const auto kv = static_cast<int>(index);
        KeyPlan::Tile& tile = plan.tile(kv, t);
        const std::vector<int32_t> inner = inner_pages(plan, kv, tile, from);
        if (fits(inner)) return;
        std::vector<Bits> bits;
        const std::span<const KeyBlock> pages = plan.pages(kv);
        if (reuses) {
          bits = recalled(std::span(held->heads).subspan(static_cast<size_t>(kv) * n_lists, n_lists), pages, inner);
        } else {
          bits = search(call, queries, plan, kv, tile, inner);
          for (size_t list = 0; list < n_lists; ++list) {
            for (size_t i = 0; i < inner.size(); ++i) {
              if (bits[list][i] == 0) continue;
              const int32_t first = first_key(pages[static_cast<size_t>(inner[i])]);
              found->heads[static_cast<size_t>(kv) * n_lists + list].push_back({first, bits[list][i]});
            }
          }
        }
        keep_keys(plan, tile, inner, widened(std::move(bits), plan.group()));
      });
      if (found) held = std::move(found);
    }
  }
  static int32_t first_key(const KeyBlock& page) {
    return *std::min_element(page.positions, page.positions + kPageKeys);
  }
  // The held pages where they lie now; another method may have moved or dropped some.
  static std::vector<Bits> recalled(std::span<const std::vector<Masks::Page>> heads, std::span<const KeyBlock> pages,
                                    std::span<const int32_t> inner) {
    std::vector<Bits> out(heads.size(), Bits(inner.size(), 0));
    for (size_t list = 0; list < heads.size(); ++list) {
      size_t i = 0;
      for (const Masks::Page& page : heads[list]) {
        while (i < inner.size() && first_key(pages[static_cast<size_t>(inner[i])]) < page.first) ++i;
        if (i < inner.size() && first_key(pages[static_cast<size_t>(inner[i])]) == page.first) out[list][i] = page.bits;
      }
    }
    return out;
  }

  // Those between the sinks and the window of a row at `from`.
  std::vector<int32_t> inner_pages(const KeyPlan& plan, int kv, const KeyPlan::Tile& tile, int32_t from) const {
    return pages_within(plan, kv, tile, n_sink_, int64_t{from} + 1 - window_);
  }
  int in_page() const { return kPageKeys >> block_k_; }  // blocks
  int32_t budget() const { return std::max(1, k_ >> block_k_); }
  bool fits(const std::vector<int32_t>& inner) const {
    return static_cast<int64_t>(inner.size()) * in_page() <= budget();
  }
  int lists(const KeyPlan& plan) const { return per_head_ ? plan.group() : 1; }
  static std::vector<Bits> widened(std::vector<Bits> lists, int group) {
    lists.resize(static_cast<size_t>(group), lists[0]);
    return lists;
  }

  // Of each query head of the group, or of all, what the rows of the tile read of these pages.
  std::vector<Bits> search(const Call& call, const Queries& queries, const KeyPlan& plan, int kv,
                           const KeyPlan::Tile& tile, std::span<const int32_t> inner) const {
    const RowScores scores(call, queries, plan, kv, tile.first, tile.n, stride_q_);
    const auto per_page = static_cast<size_t>(in_page()), per_block = static_cast<size_t>(kPageKeys) / per_page;
    std::vector<Bits> out;
    for (int list = 0; list < lists(plan); ++list) {
      std::vector<int32_t> pages;
      const auto score = [&](std::span<const int32_t> blocks, std::span<float> of_block) {
        pages.clear();
        size_t before = inner.size();
        for (const int32_t block : blocks) {
          const size_t page = static_cast<size_t>(block) / per_page;
          if (page != before) pages.push_back(inner[page]);
          before = page;
        }
        for (size_t i = 0; i < blocks.size(); ++i) of_block[static_cast<size_t>(blocks[i])] = kNothing;
        for (int g = 0; g < plan.group(); ++g) {
          if (per_head_ && g != list) continue;
          const std::vector<float> tops = highest_of(scores, g, pages);
          size_t at = 0;
          for (const int32_t block : blocks) {
            const size_t page = static_cast<size_t>(block) / per_page;
            while (pages[at] != inner[page]) ++at;
            const float* from = tops.data() + at * kPageKeys + static_cast<size_t>(block) % per_page * per_block;
            float& top = of_block[static_cast<size_t>(block)];
            top = std::max(top, *std::max_element(from, from + per_block));
          }
        }
      };
      Bits bits(inner.size(), 0);
      const uint32_t block_bits = static_cast<uint32_t>((uint64_t{1} << per_block) - 1);
      for (const int32_t block : tree_search(static_cast<int32_t>(inner.size() * per_page), budget(),
                                             static_cast<Representative>(representative_), score)) {
        const size_t in = static_cast<size_t>(block) % per_page;
        bits[static_cast<size_t>(block) / per_page] |= block_bits << in * per_block;
      }
      out.push_back(std::move(bits));
    }
    return widened(std::move(out), plan.group());
  }
  // Of each key of these pages the highest score of a row; NaN never counts.
  static std::vector<float> highest_of(const RowScores& scores, int g, std::span<const int32_t> pages) {
    const std::span<const float> all = scores.of(g, pages);
    const size_t n = pages.size() * kPageKeys;
    std::vector<float> tops(n, kNothing);
    for (size_t row = 0; row < all.size(); row += n) {
      const float* from = all.data() + row;
      for (size_t i = 0; i < n; ++i) tops[i] = from[i] > tops[i] ? from[i] : tops[i];
    }
    return tops;
  }

  static constexpr float kNothing = -std::numeric_limits<float>::infinity();
  int k_ = 512;
  int block_q_ = 6, block_k_ = 5;  // powers of two
  int stride_q_ = 8;
  int representative_ = static_cast<int>(Representative::kCenter);
  int window_ = 256, n_sink_ = 16, dense_layers_ = 3, refresh_ = 8;
  bool per_head_ = true;
  size_t n_layers_ = 0;
};
FOVEA_REGISTER_METHOD(HipAttention);

}  // namespace
}  // namespace fovea::attention
