// XAttention: each query head of a tile of a prompt reads the blocks of keys that hold `threshold` of its weight, by
// sums of scores along antidiagonals; generated tokens read everything, nothing leaves the cache. Xu et al.,
// "XAttention: Block Sparse Attention with Antidiagonal Scoring", arXiv:2503.16428, sec. 2. An antidiagonal of every
// cell of `stride` x `stride` scores is summed, at 1 / stride of the products; softmax over a row of cells, sums over
// blocks, the highest until the threshold is reached. The blocks of the sinks and the tile's own are always read. Tiles
// have 64 rows (the paper's blocks 128 x 128), so that a block of keys may be finer than the paper's. Not done here:
// sec. 2.3, a threshold of each head's own by a search.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "fovea/attention/head_pages.h"
#include "fovea/attention/method.h"
#include "fovea/kernels/antidiagonals.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/scratch.h"

namespace fovea::attention {
namespace {

using kernels::kPageKeys;

class XAttention final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "xattention",
      .title = "XAttention",
      .paper = "arXiv:2503.16428, sec. 2",
      .stages = kChoose,
      .summary = "tiles of a prompt read the blocks of keys that antidiagonal sums say hold most of the weight",
      .neutral = "threshold=1",
      .example = "threshold=0.2:block=32:stride=8:n_sink=0",
      .exceptions =
          "causal: the rows of a tile share the blocks that the sums of all of them choose (sec. 2.1); "
          "chunks: a tile that is read in parts is summed over the rows that are there (sec. 2.1)",
      .budgets = "threshold=0.9 threshold=0.7",
      .pair = "threshold=0.9"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("threshold", threshold_,
              {.min = 0, .max = 1, .help = "share of the weight that the blocks hold; 1: all"});
    knobs.add("stride", stride_, {"1", "2", "4", "8", "16", "32"}, {.help = "side of the cells that are summed along"});
    knobs.add("block", block_, {"32", "64", "128"}, {.help = "keys of a block"});
    knobs.add("n_sink", n_sink_, {.min = 0, .max = 1 << 24, .help = "first keys, whose blocks are always read"});
    knobs.add("dense_layers", dense_layers_, {.min = 0, .max = 1 << 16, .help = "first layers, which read all keys"});
  }

  bool chooses(int layer) const override { return threshold_ < 1 && layer >= dense_layers_; }
  void choose(const Call& call, const Queries& queries, KeyPlan& plan) const override {
    if (call.decoding() || !call.model.site(call.layer).causal) return;
    cut_at_multiples(plan, KeyPlan::kTileQueries);
    plan.edit_tiles([&](int kv, KeyPlan::Tile& tile) {
      const std::vector<int32_t> pages = pages_within(plan, kv, tile, 0, std::numeric_limits<int64_t>::max());
      if (pages.empty()) return;
      std::vector<KeyBlock> blocks;
      for (const int32_t page : pages) blocks.push_back(plan.pages(kv)[static_cast<size_t>(page)]);
      const std::vector<int32_t> cells = first_keys(blocks, 1 << stride_);
      const int32_t q_pos = call.q_pos[static_cast<size_t>(tile.first)];
      const auto first_key = [&](size_t i) {
        return *std::min_element(blocks[i].positions, blocks[i].positions + kPageKeys);
      };
      size_t own = pages.size() - 1, sinks = 0;  // the last page that begins before the tile; pages with a sink
      while (own > 0 && first_key(own) > q_pos) --own;
      while (sinks < own && first_key(sinks) < n_sink_) ++sinks;
      std::vector<std::vector<uint32_t>> keys;
      for (int g = 0; g < plan.group(); ++g)
        keys.push_back(heaviest(shares(call, queries, plan, kv, g, tile, blocks, cells), pages, sinks, own));
      keep_keys(plan, tile, pages, keys);
    });
  }

 private:
  // Of each cell of these pages; kNoPosition where it has no key.
  static std::vector<int32_t> first_keys(std::span<const KeyBlock> blocks, int stride) {
    std::vector<int32_t> out;
    for (const KeyBlock& block : blocks) {
      for (int at = 0; at < kPageKeys; at += stride)
        out.push_back(*std::min_element(block.positions + at, block.positions + at + stride));
    }
    return out;
  }

  // What the rows of the tile give each page by the softmax over their cells, summed: estimates of its weight. NaN
  // where a score is.
  std::vector<double> shares(const Call& call, const Queries& queries, const KeyPlan& plan, int kv, int g,
                             const KeyPlan::Tile& tile, std::span<const KeyBlock> blocks,
                             std::span<const int32_t> cells) const {
    const AttentionShape site = call.model.site(call.layer);
    const int stride = 1 << stride_;
    thread_local tensor::Scratch bytes;
    thread_local std::vector<float> sums;
    const size_t in_page = static_cast<size_t>(kPageKeys / stride), in_row = cells.size();
    const auto rows = static_cast<size_t>((tile.n + stride - 1) / stride);
    sums.resize(rows * in_row);
    kernels::AntidiagonalArgs args{
        .k_type = plan.layout().k_type,
        .k_dim = site.k_dim,
        .stride = stride,
        .scale = site.scale / static_cast<float>(stride),
        .n_queries = tile.n,
        .q = queries.turned.data() + (tile.first * site.n_heads + int64_t{kv} * plan.group() + g) * site.k_dim,
        .ld_q = int64_t{site.n_heads} * site.k_dim,
        .blocks = blocks.data(),
        .n_blocks = static_cast<int64_t>(blocks.size()),
        .sums = sums.data()};
    args.scratch = bytes.at_least(kernels::antidiagonal_scratch_bytes(args));
    kernels::antidiagonal_sums(args);

    std::vector<double> out(blocks.size(), 0.0);
    for (size_t row = 0; row < rows; ++row) {
      float* of_row = sums.data() + row * in_row;
      const int64_t last = std::min(tile.n, static_cast<int64_t>(row + 1) * stride) - 1;
      const int32_t q_pos = call.q_pos[static_cast<size_t>(tile.first + last)];
      for (size_t i = 0; i < in_row; ++i)
        of_row[i] = cells[i] > q_pos ? -std::numeric_limits<float>::infinity() : of_row[i];
      kernels::softmax(of_row, static_cast<int64_t>(in_row), of_row);
      for (size_t b = 0; b < blocks.size(); ++b) {
        float sum = 0;
        for (size_t i = b * in_page; i < (b + 1) * in_page; ++i) sum += of_row[i];
        out[b] += static_cast<double>(sum);
      }
    }
    return out;
  }

  // The keys that are read of each page; always those of the blocks with the first `sinks` pages, and from `own` on.
  std::vector<uint32_t> heaviest(const std::vector<double>& shares, std::span<const int32_t> pages, size_t sinks,
                                 size_t own) const {
    const int in_block = 1 << block_;
    std::vector<double> of_block(static_cast<size_t>(pages.back() / in_block) + 1, 0.0);
    double all = 0, taken = 0;
    for (size_t i = 0; i < pages.size(); ++i) {
      of_block[static_cast<size_t>(pages[i] / in_block)] += shares[i];
      all += shares[i];
    }
    if (!std::isfinite(all)) return std::vector<uint32_t>(pages.size(), ~uint32_t{0});
    std::vector<char> reads(of_block.size(), 0);
    for (size_t i = 0; i < pages.size(); ++i) {
      if (i < sinks || i >= own) reads[static_cast<size_t>(pages[i] / in_block)] = 1;
    }
    std::vector<size_t> others;
    for (size_t block = 0; block < of_block.size(); ++block) {
      if (reads[block]) taken += of_block[block];
      if (!reads[block] && of_block[block] > 0) others.push_back(block);
    }
    std::stable_sort(others.begin(), others.end(), [&](size_t a, size_t b) { return of_block[a] > of_block[b]; });
    for (size_t i = 0; i < others.size() && taken < threshold_ * all; ++i) {
      reads[others[i]] = 1;
      taken += of_block[others[i]];
    }
    std::vector<uint32_t> bits;
    for (const int32_t page : pages) bits.push_back(reads[static_cast<size_t>(page / in_block)] ? ~uint32_t{0} : 0);
    return bits;
  }

  double threshold_ = 0.9;
  int stride_ = 4, block_ = 2;  // powers of two: of keys, of pages
  int n_sink_ = 4, dense_layers_ = 0;
};
FOVEA_REGISTER_METHOD(XAttention);

}  // namespace
}  // namespace fovea::attention
