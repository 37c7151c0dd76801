// LongHeads: the text is cut into chunks, and every head of every row reads the few chunks that it finds most like its
// query, with the first, the last and its own, at positions that stay inside what the model was trained for.
// Lu et al., "LongHeads: Multi-Head Attention is Secretly a Long Context Processor", arXiv:2402.10685, sec. 3.
// A chunk's key is made once it is complete (sec. 3.2): its rows attend to all of it, both ways, c_q is the mean of
// what they get, and c = softmax(c_q k / sqrt(d)) k over its keys as if it stood at the beginning of the text. A row
// scores complete chunks by its query before it is turned (sec. 3.1).
// Nothing is gathered: where a chunk seems to stand nearer by whole chunks, the query is turned for it instead. In
// prefill and decode alike a row reads the first chunk, the complete one before its own, its own up to itself, and the
// best n_chunks - 3 of the others (the authors' prefill leaves the row's own key out, their decode does not). Rows
// of a tile pick for themselves; what any of them picks is computed for all, so that in a prompt this saves little:
// `share=tile` picks once for neighbouring rows.
#include <algorithm>
#include <climits>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "fovea/attention/method.h"
#include "fovea/attention/own_page.h"
#include "fovea/base/random.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/scratch.h"

namespace fovea::attention {
namespace {

class LongHeads final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "longheads",
      .title = "LongHeads",
      .paper = "arXiv:2402.10685, sec. 3",
      .stages = kChoose,
      .summary = "every head reads the chunks of the text nearest to its query, at compacted positions",
      .neutral = "n_chunks=16777216",
      .example = "chunk=32:n_chunks=3:begin=0",
      .more_examples = "chunk=32:n_chunks=3:begin=0:by=kv-head:key=mean chunk=32:n_chunks=3:begin=70:key=last",
      .excludes = "quest streaming-llm duo-attention razor-attention moa snapkv h2o expected-attention token-select",
      .exceptions = "windows: layers with a window of their own stay as they are, sec. 3",
      .budgets = "chunk=64:n_chunks={0.0078} chunk=64:n_chunks={0.0039}",
      .past_window = "share=tile"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("chunk", chunk_, {.min = 32, .max = 1 << 16, .help = "keys of a chunk; a multiple of 32"});
    knobs.add("n_chunks", n_chunks_, {.min = 3, .max = 1 << 24, .help = "chunks that a row reads"});
    knobs.add("begin", begin_,
              {.min = -1, .max = 1 << 24, .help = "rows before this one read everything; -1: chunk * n_chunks"});
    knobs.add("key", key_, {"attention", "mean", "last", "random"},
              {.help = "what stands for a chunk: pooled by attention, the mean key, the last; random: a control"});
    knobs.add("by", by_, {"head", "kv-head"}, {.help = "who picks: each query head, or those of a KV head together"});
    knobs.add("share", share_, {"row", "tile"},
              {.help = "tile: up to 64 neighbouring rows of a prompt pick together, which is what saves time there"});
    knobs.add("seed", seed_, {.min = 0, .help = "of random chunks"});
  }
  Status bind(const ModelShape& model) override {
    if (chunk_ % kernels::kPageKeys != 0)
      return make_error(ErrorCode::kUsage, "longheads: chunk {} is no multiple of {}", chunk_, kernels::kPageKeys);
    n_layers_ = static_cast<size_t>(model.n_layers);
    windows_.clear();
    for (int layer = 0; layer < model.n_layers; ++layer) {
      const AttentionShape site = model.site(layer);
      windows_.push_back(site.window != INT_MAX || !site.causal);
      if (key_ == kAttention && site.k_dim != site.v_dim) {
        return make_error(ErrorCode::kUnsupported,
                          "longheads: keys of {} and values of {} cannot be pooled by attention; say key=mean",
                          site.k_dim, site.v_dim);
      }
    }
    return {};
  }
  std::unique_ptr<SequenceState> begin_sequence() const override { return std::make_unique<Chunks>(n_layers_, chunk_); }
  int64_t reach() const override {
    const bool any_window = std::find(windows_.begin(), windows_.end(), true) != windows_.end();
    return any_window ? Method::reach() : std::max(int64_t{chunk_} * n_chunks_, first_row());
  }

  bool chooses(int layer) const override { return n_chunks_ < 1 << 24 && !windows_[static_cast<size_t>(layer)]; }
  void choose(const Call& call, const Queries& queries, KeyPlan& plan) const override {
    complete_chunks(call, queries, plan);
    const Chunks::Layer& mine = layer_of(call);
    const auto n = static_cast<int64_t>(call.q_pos.size());
    int32_t most = 0;  // chunks by which a key may seem nearer
    bool any = false;
    for (int64_t row = 0; row < n; ++row) {
      const int32_t position = call.q_pos[static_cast<size_t>(row)];
      if (position % chunk_ == 0 || position == first_row()) plan.cut(row);
      if (call.decoding()) plan.cut(row);
      if (!picks(position)) continue;
      any = true;
      most = std::max(most, position / chunk_ - (n_chunks_ - 1));
    }
    if (!any) return;
    std::vector<int> turns;  // of a query that stands so many chunks nearer
    for (int32_t nearer = 0; nearer <= most; ++nearer) {
      std::vector<int32_t> at(call.q_pos.begin(), call.q_pos.end());
      for (int32_t& position : at) position = std::max(position % chunk_, position - nearer * chunk_);
      turns.push_back(nearer == 0 ? 0 : plan.turn(std::move(at)));
    }
    plan.edit_tiles([&](int kv, KeyPlan::Tile& tile) {
      if (picks(call.q_pos[static_cast<size_t>(tile.first)])) pick_for(call, queries, plan, kv, mine, turns, tile);
    });
  }

 private:
  enum Key { kAttention, kMean, kLast, kRandom };
  enum By { kHead, kKvHead };
  enum Share { kRow, kTile };

  struct Chunks final : SequenceState {
    struct Layer {
      std::vector<std::shared_ptr<const std::vector<float>>> keys;  // of complete chunks, [n_heads, k_dim]
      std::vector<std::shared_ptr<const std::vector<float>>>
          rows;  // of the one that is not: q, turned, [n_heads, k_dim]
    };
    std::vector<Layer> layers;
    KnownTurns turns;
    int chunk;
    Chunks(size_t n_layers, int size) : layers(n_layers), chunk(size) {}
    std::unique_ptr<SequenceState> clone() const override { return std::make_unique<Chunks>(*this); }
    uint64_t bytes() const override {
      uint64_t sum = 0;
      for (const Layer& layer : layers) {
        for (const auto* held : {&layer.keys, &layer.rows}) {
          for (const auto& each : *held) sum += each->size() * sizeof(float);
        }
      }
      return sum;
    }
    // The queries of a chunk are gone once it is complete.
    bool can_truncate(int32_t n_tokens) const override {
      return n_tokens % chunk == 0 || std::all_of(layers.begin(), layers.end(), [&](const Layer& layer) {
               return static_cast<int32_t>(layer.keys.size()) <= n_tokens / chunk;
             });
    }
    void truncate(int32_t n_tokens) override {
      const auto n_chunks = static_cast<size_t>(n_tokens / chunk), n_rows = static_cast<size_t>(n_tokens % chunk);
      for (Layer& layer : layers) {
        layer.keys.resize(std::min(layer.keys.size(), n_chunks));
        layer.rows.resize(std::min(layer.rows.size(), n_rows));
      }
    }
  };

  int64_t first_row() const { return begin_ < 0 ? int64_t{chunk_} * n_chunks_ : begin_; }
  bool picks(int32_t position) const { return position >= first_row() && position / chunk_ > n_chunks_ - 1; }
  static Chunks::Layer& layer_of(const Call& call) {
    return static_cast<Chunks*>(call.state)->layers[static_cast<size_t>(call.layer)];
  }

  // Takes up the queries of the rows, and makes the keys of chunks that they complete.
  void complete_chunks(const Call& call, const Queries& queries, const KeyPlan& plan) const {
    Chunks::Layer& mine = layer_of(call);
    const auto width = static_cast<size_t>(queries.turned.dim(1) * queries.turned.dim(2));
    for (size_t row = 0; row < call.q_pos.size(); ++row) {
      FOVEA_CHECK(
          call.q_pos[row] == static_cast<int32_t>(mine.keys.size()) * chunk_ + static_cast<int32_t>(mine.rows.size()),
          "longheads: position {} follows {} chunks and {} rows", call.q_pos[row], mine.keys.size(), mine.rows.size());
      const float* from = queries.turned.data() + row * width;
      mine.rows.push_back(key_ == kAttention ? std::make_shared<const std::vector<float>>(from, from + width)
                                             : nullptr);
      if (static_cast<int32_t>(mine.rows.size()) < chunk_) continue;
      mine.keys.push_back(key_of_chunk(call, plan, mine));
      mine.rows.clear();
    }
  }

  std::shared_ptr<const std::vector<float>> key_of_chunk(const Call& call, const KeyPlan& plan,
                                                         const Chunks::Layer& mine) const {
    const AttentionShape shape = call.model.site(call.layer);
    const auto d = static_cast<size_t>(shape.k_dim), n = static_cast<size_t>(chunk_);
    const auto begin = static_cast<int32_t>(mine.keys.size()) * chunk_;
    auto out = std::make_shared<std::vector<float>>(static_cast<size_t>(shape.n_heads) * d, 0.0f);
    if (key_ == kRandom) return out;
    const KeyTurns* turns = static_cast<Chunks*>(call.state)->turns.of(call.rope);
    pool().for_each(plan.n_kv_heads(), [&](int64_t index, int) {
      const auto kv = static_cast<int>(index);
      const auto first_page = static_cast<size_t>(begin / kernels::kPageKeys);
      const std::span<const KeyBlock> pages = plan.pages(kv).subspan(first_page, n / kernels::kPageKeys);
      std::vector<float> keys(n * d);  // as if the chunk stood first
      for (size_t i = 0; i < n; ++i) {
        const auto slot = static_cast<int>(i % kernels::kPageKeys);
        const KeyBlock& page = pages[i / kernels::kPageKeys];
        FOVEA_CHECK(page.positions[slot] == begin + static_cast<int32_t>(i), "longheads: key {} of its chunk is gone",
                    i);
        const std::span<float> key(keys.data() + i * d, d);
        plan.read_key(page, slot, key);
        if (turns) turns->move(-begin, key);
      }
      std::vector<float> pooled;
      if (key_ == kAttention) pooled = mean_of_rows(shape, plan, kv, pages, mine);
      for (int g = 0; g < plan.group(); ++g) {
        float* to =
            out->data() + (static_cast<size_t>(kv) * static_cast<size_t>(plan.group()) + static_cast<size_t>(g)) * d;
        std::vector<float> weights(n, key_ == kMean ? 1.0f / static_cast<float>(n) : 0.0f);
        if (key_ == kLast) weights.back() = 1;
        for (size_t i = 0; i < n && key_ == kAttention; ++i) {
          weights[i] = kernels::dot(pooled.data() + static_cast<size_t>(g) * d, keys.data() + i * d, shape.k_dim) /
                       std::sqrt(static_cast<float>(d));
        }
        if (key_ == kAttention) kernels::softmax(weights.data(), chunk_, weights.data());
        for (size_t i = 0; i < n; ++i) kernels::axpy(shape.k_dim, weights[i], keys.data() + i * d, to);
      }
    });
    return out;
  }

  // What the chunk's rows get of all its keys, the mean, [group, v_dim].
  static std::vector<float> mean_of_rows(const AttentionShape& shape, const KeyPlan& plan, int kv,
                                         std::span<const KeyBlock> pages, const Chunks::Layer& mine) {
    const int k_dim = plan.layout().k_dim, v_dim = plan.layout().v_dim;  // maybe wider than the heads
    const auto n = static_cast<int64_t>(mine.rows.size()), width = int64_t{shape.group()} * k_dim,
               z_width = int64_t{shape.group()} * v_dim;
    std::vector<float> q(static_cast<size_t>(n * width), 0.0f), z(static_cast<size_t>(n * z_width)),
        mean(static_cast<size_t>(shape.group() * shape.v_dim), 0.0f);
    std::vector<int32_t> q_pos(static_cast<size_t>(n), INT32_MAX - 1);
    for (int64_t row = 0; row < n; ++row) {
      const float* from = mine.rows[static_cast<size_t>(row)]->data() + int64_t{kv} * shape.group() * shape.k_dim;
      for (int g = 0; g < shape.group(); ++g)
        std::copy_n(from + int64_t{g} * shape.k_dim, shape.k_dim, q.data() + row * width + int64_t{g} * k_dim);
    }
    kernels::AttentionArgs args{.k_type = plan.layout().k_type,
                                .v_type = plan.layout().v_type,
                                .k_dim = k_dim,
                                .v_dim = v_dim,
                                .group = shape.group(),
                                .scale = shape.scale,
                                .n_queries = n,
                                .q = q.data(),
                                .ld_q = width,
                                .q_pos = q_pos.data(),
                                .blocks = pages.data(),
                                .n_blocks = static_cast<int64_t>(pages.size()),
                                .rule = {},
                                .z = z.data(),
                                .ld_z = z_width};
    thread_local tensor::Scratch scratch;
    args.scratch = scratch.at_least(kernels::attention_scratch_bytes(args));
    kernels::attention(args);
    for (int64_t row = 0; row < n; ++row) {
      for (int g = 0; g < shape.group(); ++g)
        kernels::axpy(shape.v_dim, 1.0f / static_cast<float>(n), z.data() + row * z_width + int64_t{g} * v_dim,
                      mean.data() + int64_t{g} * shape.v_dim);
    }
    return mean;
  }

  // Rows of a tile by the chunks that they read, and by how many of them those seem nearer.
  using Picked = std::map<std::pair<int32_t, int32_t>, uint64_t>;  // (nearer, chunk) -> rows

  void pick_for(const Call& call, const Queries& queries, const KeyPlan& plan, int kv, const Chunks::Layer& mine,
                const std::vector<int>& turns, KeyPlan::Tile& tile) const {
    const int n_lists = by_ == kHead ? plan.group() : 1;
    FOVEA_CHECK(tile.parts.size() == 1, "longheads: no method before it may make parts");
    const KeyPlan::Part whole = std::move(tile.parts[0]);
    tile.parts.clear();
    for (int list = 0; list < n_lists; ++list) {
      const Picked picked = pick(call, queries, plan.group(), kv, list, mine, tile);
      for (auto it = picked.begin(); it != picked.end();) {
        KeyPlan::Part part{.pages = {}, .rules = whole.rules};
        part.head = by_ == kHead ? list : KeyPlan::kAllHeads;
        part.turn = turns[static_cast<size_t>(it->first.first)];
        for (const int32_t nearer = it->first.first; it != picked.end() && it->first.first == nearer; ++it)
          add_pages(plan, whole, it->first.second, it->second, tile, part);
        tile.parts.push_back(std::move(part));
      }
    }
  }
  void add_pages(const KeyPlan& plan, const KeyPlan::Part& whole, int32_t chunk, uint64_t rows, KeyPlan::Tile& tile,
                 KeyPlan::Part& part) const {
    const int32_t per_chunk = chunk_ / kernels::kPageKeys, begin = chunk * per_chunk;
    const uint64_t every = tile.n == 64 ? ~uint64_t{0} : (uint64_t{1} << tile.n) - 1;
    for (const KeyPlan::Page& page : whole.pages) {
      if (page.index < begin || page.index >= begin + per_chunk) continue;
      part.pages.push_back(page);
      if (rows == every) continue;
      const std::span<uint32_t> bits = plan.own_mask(tile, part.pages.back());
      for (size_t i = 0; i < bits.size(); ++i) {
        if ((rows >> (i % static_cast<size_t>(tile.n)) & 1) == 0) bits[i] = 0;
      }
    }
  }

  // For one query head of the group, or for all of it.
  Picked pick(const Call& call, const Queries& queries, int group, int kv, int list, const Chunks::Layer& mine,
              const KeyPlan::Tile& tile) const {
    const AttentionShape shape = call.model.site(call.layer);
    const auto d = static_cast<size_t>(shape.k_dim);
    const int32_t own = call.q_pos[static_cast<size_t>(tile.first)] / chunk_;  // of all rows of the tile
    const int32_t n_read = n_chunks_ - 1;                                      // complete ones
    const auto n_others = static_cast<size_t>(own - 2);                        // neither first nor last
    const bool together = share_ == kTile && !call.decoding();
    Picked picked;
    std::vector<float> scores(n_others, 0.0f);
    std::vector<int32_t> order(n_others);
    for (int64_t i = 0; i < tile.n; ++i) {
      if (!together) std::fill(scores.begin(), scores.end(), 0.0f);
      const size_t row = static_cast<size_t>(tile.first + i);
      Rng random(static_cast<uint64_t>(seed_) * 1000003 + static_cast<uint64_t>(call.q_pos[row]) * 8191 +
                 static_cast<uint64_t>(call.layer * 64 + kv * group + list));
      for (size_t j = 0; j < n_others; ++j) {
        if (key_ == kRandom) scores[j] = static_cast<float>(random.below(1 << 20));
        for (int g = 0; g < group && key_ != kRandom; ++g) {
          if (by_ == kHead && g != list) continue;
          const size_t head = static_cast<size_t>(kv * group + g);
          scores[j] += kernels::dot(queries.plain.data() + (row * static_cast<size_t>(shape.n_heads) + head) * d,
                                    mine.keys[j + 1]->data() + head * d, shape.k_dim);
        }
      }
      if (together && i + 1 < tile.n) continue;
      std::iota(order.begin(), order.end(), 1);
      const auto n_best = static_cast<ptrdiff_t>(n_read - 2);
      std::nth_element(order.begin(), order.begin() + n_best, order.end(), [&](int32_t a, int32_t b) {
        const float x = scores[static_cast<size_t>(a - 1)], y = scores[static_cast<size_t>(b - 1)];
        return x != y ? x > y : a < b;
      });
      std::vector<int32_t> chunks(order.begin(), order.begin() + n_best);
      chunks.push_back(0);
      chunks.push_back(own - 1);
      std::sort(chunks.begin(), chunks.end());
      const uint64_t rows = !together ? uint64_t{1} << i : tile.n == 64 ? ~uint64_t{0} : (uint64_t{1} << tile.n) - 1;
      // Of n_read complete chunks before the row's own, the one in place r stands r chunks from the start.
      for (int32_t r = 0; r < n_read; ++r) {
        const int32_t chunk = chunks[static_cast<size_t>(r)];
        picked[{own - n_read - (chunk - r), chunk}] |= rows;
      }
      picked[{0, own}] |= rows;
    }
    return picked;
  }

  int chunk_ = 256, n_chunks_ = 16, begin_ = -1, key_ = kAttention, by_ = kHead, share_ = kRow, seed_ = 0;
  size_t n_layers_ = 0;
  std::vector<bool> windows_;  // layers that stay as they are
};
FOVEA_REGISTER_METHOD(LongHeads);

}  // namespace
}  // namespace fovea::attention
