// MInference: each query head reads a prompt by the pattern that holds most of its weight: first keys and a window
// (A-shape), columns and diagonals (vertical-slash), or the pages that the mean of a tile's queries likes best
// (block-sparse); generated tokens read everything, nothing leaves the cache.
// Jiang et al., "MInference 1.0: Accelerating Pre-filling for Long-Context LLMs via Dynamic Sparse Attention",
// arXiv:2407.02490, sec. 3.
// Columns and diagonals are those where the weights of a call's last `last` rows are highest. They are counted and read
// by 32, a page of keys: a page that is read costs the same, whatever rows see of it. The pattern is the one that holds
// most of these rows' weight, anew in each call; the paper's search for pattern and sizes of each head on one prompt
// (algorithm 1) is not done here.
#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "fovea/attention/head_pages.h"
#include "fovea/attention/method.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/vector.h"

namespace fovea::attention {
namespace {

using kernels::kPageKeys;

class MInference final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "minference",
      .title = "MInference",
      .paper = "arXiv:2407.02490, sec. 3",
      .stages = kChoose,
      .summary = "heads read prompts by a pattern: sinks and a window, columns and diagonals, or the best pages",
      .neutral = "pattern=dense",
      .example = "n_sink=0:window=1:vertical=0:slash=0:a_window=1:blocks=0",
      .more_examples =
          "pattern=a-shape:n_sink=0:a_window=1 pattern=vertical-slash:n_sink=0:window=1:vertical=0:slash=0 "
          "pattern=block-sparse:n_sink=0:window=1:blocks=0",
      .exceptions =
          "causal: a call's last rows choose for all of its rows (sec. 3.2, algorithm 2); chunks: each "
          "chunk has last rows of its own (sec. 3.2, algorithm 2)",
      .budgets =
          "vertical={0.125}:slash={0.25}:a_window={0.25}:blocks={0.25}:window={0.05} "
          "vertical={0.05}:slash={0.1}:a_window={0.1}:blocks={0.1}:window={0.05}",
      .pair = "vertical={0.125}:slash={0.25}:a_window={0.25}:blocks={0.25}:window={0.05}"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("pattern", pattern_, {"dense", "auto", "a-shape", "vertical-slash", "block-sparse"},
              {.help = "of all heads; auto: for each the one that holds most of the last rows' weight"});
    knobs.add("n_sink", n_sink_, {.min = 0, .max = 1 << 24, .help = "first keys, always read"});
    knobs.add("window", window_, {.min = 1, .max = 1 << 24, .help = "last keys, always read"});
    knobs.add("a_window", a_window_, {.min = 1, .max = 1 << 24, .help = "the same of the A-shape"});
    knobs.add("vertical", vertical_, {.min = 0, .max = 1 << 24, .help = "columns that are read, in pages of 32"});
    knobs.add("slash", slash_, {.min = 0, .max = 1 << 24, .help = "diagonals that are read, 32 side by side"});
    knobs.add("blocks", blocks_, {.min = 0, .max = 1 << 24, .help = "keys of the best pages, by 32; of block-sparse"});
    knobs.add("last", last_, {.min = 1, .max = 512, .help = "last rows of a call, which choose columns and diagonals"});
    knobs.add("dense_layers", dense_layers_, {.min = 0, .max = 1 << 16, .help = "first layers, which read all keys"});
  }

  bool chooses(int layer) const override { return pattern_ != kDense && layer >= dense_layers_; }
  void choose(const Call& call, const Queries& queries, KeyPlan& plan) const override {
    if (call.decoding() || !call.model.site(call.layer).causal) return;
    cut_at_multiples(plan, KeyPlan::kTileQueries);
    const auto group = static_cast<size_t>(plan.group());
    std::vector<Lines> lines(static_cast<size_t>(plan.n_kv_heads()) * group);
    for (Lines& of_head : lines) of_head.pattern = pattern_;
    if (pattern_ == kAuto || pattern_ == kVerticalSlash) {
      for (int kv = 0; kv < plan.n_kv_heads(); ++kv) plan.tile(kv, 0);  // opened before threads look at it
      pool().for_each(static_cast<int64_t>(lines.size()), [&](int64_t head, int) {
        const auto kv = static_cast<int>(head / plan.group()), g = static_cast<int>(head % plan.group());
        lines[static_cast<size_t>(head)] = estimate(call, queries, plan, kv, g);
      });
    }
    plan.edit_tiles([&](int kv, KeyPlan::Tile& tile) {
      const Rows rows = rows_of(call, plan, kv, tile, tile.first, tile.n);
      if (rows.pages.empty()) return;
      std::vector<std::vector<uint32_t>> keys;
      for (size_t g = 0; g < group; ++g) {
        const Lines& of_head = lines[static_cast<size_t>(kv) * group + g];
        const std::vector<char> reads =
            pages_of(of_head.pattern, of_head, call, queries, plan, kv, static_cast<int>(g), rows);
        std::vector<uint32_t>& bits = keys.emplace_back();
        for (const int32_t page : rows.pages) bits.push_back(reads[static_cast<size_t>(page)] ? ~uint32_t{0} : 0);
      }
      keep_keys(plan, tile, rows.pages, keys);
    });
  }

 private:
  enum Pattern { kDense, kAuto, kAShape, kVerticalSlash, kBlockSparse };
  struct Lines {  // of a query head
    int pattern;
    std::vector<int32_t> columns;    // pages
    std::vector<int32_t> diagonals;  // i: those that lie 32 i .. 32 i + 31 slots before a row's own
  };
  // Rows [first, first + n) of a call, and the pages that they may see. Slot s of the head is slot s % 32 of page s
  // / 32.
  struct Rows {
    int64_t first, n;
    std::vector<int32_t> pages;
    int64_t first_slot, last_slot;  // of the first and the last row's own key
    int32_t n_sink_pages;           // the first page without a sink
  };
  Rows rows_of(const Call& call, const KeyPlan& plan, int kv, const KeyPlan::Tile& tile, int64_t first,
               int64_t n) const {
    Rows rows{first, n, pages_within(plan, kv, tile, 0, std::numeric_limits<int64_t>::max()), 0, 0, 0};
    if (rows.pages.empty()) return rows;
    const std::span<const KeyBlock> cached = plan.pages(kv);
    const auto slot_of = [&](int64_t row) {
      const int32_t position = call.q_pos[static_cast<size_t>(row)];
      for (size_t page = static_cast<size_t>(rows.pages.back()) + 1; page-- > 0;) {
        const int32_t* at = cached[page].positions;
        const int32_t* found = std::find(at, at + kPageKeys, position);
        if (found != at + kPageKeys) return static_cast<int64_t>(page) * kPageKeys + (found - at);
      }
      return int64_t{0};
    };
    rows.first_slot = slot_of(first);
    rows.last_slot = slot_of(first + n - 1);
    const auto first_key = [&](int32_t page) {
      const int32_t* at = cached[static_cast<size_t>(page)].positions;
      return *std::min_element(at, at + kPageKeys);
    };
    while (rows.n_sink_pages < rows.pages.back() && first_key(rows.n_sink_pages) < n_sink_) ++rows.n_sink_pages;
    return rows;
  }

  // Whether each page, up to the last that the rows may see, is read.
  std::vector<char> pages_of(int pattern, const Lines& lines, const Call& call, const Queries& queries,
                             const KeyPlan& plan, int kv, int g, const Rows& rows) const {
    std::vector<char> reads(static_cast<size_t>(rows.pages.back()) + 1, 0);
    const auto read_slots = [&](int64_t begin, int64_t last) {
      for (int64_t page = std::max<int64_t>(0, begin) / kPageKeys; page * kPageKeys <= last; ++page)
        reads[static_cast<size_t>(page)] = 1;
    };
    std::fill_n(reads.begin(), rows.n_sink_pages, 1);
    read_slots(rows.first_slot + 1 - (pattern == kAShape ? a_window_ : window_), rows.last_slot);
    if (pattern == kVerticalSlash) {
      for (const int32_t page : lines.columns) {
        if (page <= rows.pages.back()) reads[static_cast<size_t>(page)] = 1;
      }
      for (const int64_t i : lines.diagonals)
        read_slots(rows.first_slot - kPageKeys * i - (kPageKeys - 1), rows.last_slot - kPageKeys * i);
    }
    if (pattern == kBlockSparse) {
      std::vector<int32_t> inner;
      for (const int32_t page : rows.pages) {
        if (!reads[static_cast<size_t>(page)]) inner.push_back(page);
      }
      const std::vector<float> means = mean_scores(call, queries, plan, kv, g, rows, inner);
      for (const int32_t page : best(inner, means, blocks_)) reads[static_cast<size_t>(page)] = 1;
    }
    return reads;
  }
  // So many keys of pages, or lines, with the highest scores; of equal ones the first, what is no number last.
  static std::vector<int32_t> best(std::span<const int32_t> of, std::span<const float> scores, int n_keys) {
    std::vector<size_t> order(of.size());
    std::iota(order.begin(), order.end(), size_t{0});
    const auto n = std::min(order.size(), static_cast<size_t>(n_keys / kPageKeys));
    const auto score = [&](size_t i) {
      return scores[i] == scores[i] ? scores[i] : -std::numeric_limits<float>::infinity();
    };
    std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(n), order.end(),
                      [&](size_t a, size_t b) { return score(a) != score(b) ? score(a) > score(b) : a < b; });
    std::vector<int32_t> out;
    for (size_t i = 0; i < n; ++i) out.push_back(of[order[i]]);
    return out;
  }
  // Of whole pages: the mean of the rows' queries times the mean of a page's keys, which is the mean of all scores.
  static std::vector<float> mean_scores(const Call& call, const Queries& queries, const KeyPlan& plan, int kv, int g,
                                        const Rows& rows, std::span<const int32_t> pages) {
    const AttentionShape site = call.model.site(call.layer);
    const int64_t d = site.k_dim;
    std::vector<float> mean(static_cast<size_t>(plan.group() * d), 0.0f);
    for (int64_t row = rows.first; row < rows.first + rows.n; ++row) {
      const float* q = queries.turned.data() + (row * site.n_heads + int64_t{kv} * plan.group() + g) * d;
      kernels::axpy(d, 1.0f / static_cast<float>(rows.n), q, mean.data() + g * d);
    }
    const int32_t last = call.q_pos[static_cast<size_t>(rows.first + rows.n - 1)];
    const RowScores row(call, plan, kv, mean.data(), 0, {last});
    const std::span<const float> scores = row.of(g, pages);
    std::vector<float> out;
    for (size_t page = 0; page < pages.size(); ++page) {
      double sum = 0;
      int n = 0;
      for (const float score : scores.subspan(page * kPageKeys, kPageKeys)) {
        if (score == -std::numeric_limits<float>::infinity()) continue;  // a slot without a key
        sum += static_cast<double>(score);
        ++n;
      }
      out.push_back(n == 0 ? -std::numeric_limits<float>::infinity() : static_cast<float>(sum / n));
    }
    return out;
  }

  // Where the weights of the call's last rows lie.
  Lines estimate(const Call& call, const Queries& queries, const KeyPlan& plan, int kv, int g) const {
    const auto n_rows = static_cast<int64_t>(call.q_pos.size()), n = std::min<int64_t>(last_, n_rows);
    const KeyPlan::Tile& last = plan.tile(kv, plan.n_tiles() - 1);
    const Rows rows = rows_of(call, plan, kv, last, n_rows - n, n);
    Lines lines{pattern_, {}, {}};
    if (rows.pages.empty()) return lines;
    const RowScores scores(call, queries, plan, kv, rows.first, rows.n);
    const std::span<float> weights = scores.of(g, rows.pages);
    const size_t in_row = rows.pages.size() * kPageKeys;
    std::vector<float> of_page(rows.pages.size(), 0.0f);
    // Of the diagonal that lies so far before a row's own slot: rows run towards the last one.
    std::vector<float> before(static_cast<size_t>(rows.pages.back() + 1) * kPageKeys + static_cast<size_t>(n), 0.0f);
    for (int64_t i = 0; i < n; ++i) {
      float* row = weights.data() + static_cast<size_t>(i) * in_row;
      kernels::softmax(row, static_cast<int64_t>(in_row), row);
      for (size_t p = 0; p < rows.pages.size(); ++p) {
        const float* from = row + p * kPageKeys;
        float* to = before.data() + int64_t{rows.pages[p]} * kPageKeys + (n - 1 - i);
        float sum = 0;
        for (int slot = 0; slot < kPageKeys; ++slot) sum += from[slot];
        for (int slot = 0; slot < kPageKeys; ++slot) to[slot] += from[slot];
        of_page[p] += sum;
      }
    }
    std::vector<int32_t> bins(static_cast<size_t>(rows.last_slot / kPageKeys) + 1);
    std::iota(bins.begin(), bins.end(), 0);
    std::vector<float> of_bin(bins.size(), 0.0f);
    for (int64_t slot = 0; slot <= rows.last_slot; ++slot)
      of_bin[static_cast<size_t>((rows.last_slot - slot) / kPageKeys)] += before[static_cast<size_t>(slot)];
    lines.columns = best(rows.pages, of_page, vertical_);
    lines.diagonals = best(bins, of_bin, slash_);
    if (pattern_ != kAuto) return lines;
    double most = -1;
    for (const int pattern : {kVerticalSlash, kAShape, kBlockSparse}) {
      const std::vector<char> reads = pages_of(pattern, lines, call, queries, plan, kv, g, rows);
      double held = 0;
      for (size_t p = 0; p < rows.pages.size(); ++p)
        held += reads[static_cast<size_t>(rows.pages[p])] ? static_cast<double>(of_page[p]) : 0.0;
      if (held > most) lines.pattern = pattern, most = held;
    }
    return lines;
  }

  int pattern_ = kAuto;
  int n_sink_ = 32, window_ = 128, a_window_ = 1024, vertical_ = 512, slash_ = 512, blocks_ = 1024, last_ = 64;
  int dense_layers_ = 0;
};
FOVEA_REGISTER_METHOD(MInference);

}  // namespace
}  // namespace fovea::attention
