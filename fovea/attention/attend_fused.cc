// The fused path: every row of the batch over its list of key blocks, nothing of the pattern stored.
// One job over (sequence, KV head, tile of queries), cut at the segments of the keys too where tiles
// are few, so that the number of barriers does not grow with the number of sequences.
#include <algorithm>
#include <cstring>

#include "fovea/attention/attend.h"
#include "fovea/base/threads.h"

namespace fovea::attention {
namespace {

using kernels::AttentionArgs;
using kernels::KeyBlock;
using kernels::kPageKeys;
using tensor::Tensor;

constexpr int64_t kTileQueries = 64;  // of one KV head: its group shares every converted page
// Keys are cut into segments of the page list whose partial results are joined in order: decode can
// then use more threads than there are KV heads. Prefill makes the same cut, for the same bits.
constexpr int64_t kSegmentPages = 32;

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

// How many segments hold a key at or before `last`: a tile sees nothing past its last row.
int64_t segments_seen(std::span<const KeyBlock> blocks, int32_t last) {
  int64_t n = (static_cast<int64_t>(blocks.size()) + kSegmentPages - 1) / kSegmentPages;
  for (; n > 1; --n) {
    const int32_t* positions = blocks[static_cast<size_t>((n - 1) * kSegmentPages)].positions;
    if (*std::min_element(positions, positions + kPageKeys) <= last) break;
  }
  return std::max<int64_t>(1, n);
}

// Bytes that the tasks of one job work in.
struct Room {
  Room(const AttentionArgs& largest, int64_t most_parts) {
    const auto rows = static_cast<size_t>(largest.n_queries * largest.group);
    const auto dim = static_cast<size_t>(largest.head_dim);
    kernel = aligned(kernels::attention_scratch_bytes(largest));
    mask = aligned(rows * kSegmentPages * sizeof(uint32_t));
    part_z = aligned(rows * dim * sizeof(float));
    part = part_z + aligned(rows * sizeof(float));
    join = aligned(static_cast<size_t>(most_parts) * (dim + 1) * sizeof(float));
  }
  size_t kernel, mask;  // what a segment needs
  size_t part_z, part;  // partial z of a segment's rows; with their log-sum-exp behind
  size_t join;          // all parts of one row
};

}  // namespace

// One layer of the batch.
struct Attend::Fused {
  const Attend& attend;
  const Tensor& q;
  Tensor& z;
  const Room& room;
  int group = attend.c_.model.group();
  int64_t head_dim = attend.c_.model.head_dim, ld = attend.c_.model.n_heads * head_dim;

  float* out(const Tile& tile) const {
    return z.data() + (tile.run->begin + tile.first) * ld + tile.kv_head * group * head_dim;
  }

  // Rows of one tile over one segment of its keys.
  void segment(const Tile& tile, int64_t s, std::byte* scratch, float* to, int64_t ld_to, float* lse) const {
    AttentionArgs args = attend.rows_of(*tile.run, tile.kv_head, q, tile.first, tile.n);
    const int64_t n_blocks = args.n_blocks, begin = s * kSegmentPages;
    args.blocks += begin;
    args.n_blocks = std::min(kSegmentPages, n_blocks - begin);
    if (args.mask) {  // the segment's columns of it
      auto* bits = reinterpret_cast<uint32_t*>(scratch + room.kernel);
      for (int64_t row = 0; row < tile.n * group; ++row) {
        std::memcpy(bits + row * args.n_blocks, args.mask + row * n_blocks + begin,
                    static_cast<size_t>(args.n_blocks) * sizeof(uint32_t));
      }
      args.mask = bits;
    }
    args.z = to;
    args.ld_z = ld_to;
    args.lse = lse;
    args.scratch = scratch;
    kernels::attention(args);
  }
  // Straight into z if there is no other segment to join.
  void partial(const Tile& tile, int64_t s, std::byte* scratch, std::byte* part) const {
    if (tile.n_parts == 1) return segment(tile, s, scratch, out(tile), ld, nullptr);
    segment(tile, s, scratch, reinterpret_cast<float*>(part), group * head_dim,
            reinterpret_cast<float*>(part + room.part_z));
  }
  // Joins the partial results of a tile, which lie one after the other.
  void join(const Tile& tile, const std::byte* parts, std::byte* scratch) const {
    if (tile.n_parts == 1) return;
    auto* rows = reinterpret_cast<float*>(scratch);  // [n_parts][head_dim]
    float* lse = rows + tile.n_parts * head_dim;
    for (int64_t row = 0; row < tile.n * group; ++row) {
      for (int64_t s = 0; s < tile.n_parts; ++s) {
        const std::byte* part = parts + static_cast<size_t>(s) * room.part;
        std::memcpy(rows + s * head_dim, reinterpret_cast<const float*>(part) + row * head_dim,
                    static_cast<size_t>(head_dim) * sizeof(float));
        lse[s] = reinterpret_cast<const float*>(part + room.part_z)[row];
      }
      kernels::attention_merge(rows, lse, static_cast<int>(tile.n_parts), static_cast<int>(head_dim),
                               out(tile) + row / group * ld + row % group * head_dim);
    }
  }

  void whole_tiles(std::span<const Tile> tiles, int64_t most_parts) const {
    thread_local tensor::Scratch bytes;
    const size_t parts = room.kernel + room.mask, joined = parts + static_cast<size_t>(most_parts) * room.part;
    const size_t slice = joined + room.join;
    std::byte* all = bytes.at_least(slice * static_cast<size_t>(pool().size()));
    pool().for_each(static_cast<int64_t>(tiles.size()), [&](int64_t task, int thread) {
      const Tile& tile = tiles[static_cast<size_t>(task)];
      std::byte* mine = all + slice * static_cast<size_t>(thread);
      for (int64_t s = 0; s < tile.n_parts; ++s)
        partial(tile, s, mine, mine + parts + static_cast<size_t>(s) * room.part);
      join(tile, mine + parts, mine + joined);
    });
  }

  // Few tiles, many keys: a task is a segment, and the caller joins them.
  void segments(std::span<const Tile> tiles) const {
    thread_local tensor::Scratch bytes;
    const size_t slice = room.kernel + room.mask, parts_at = slice * static_cast<size_t>(pool().size());
    const int64_t n_parts = tiles.back().first_part + tiles.back().n_parts;
    std::byte* all = bytes.at_least(parts_at + static_cast<size_t>(n_parts) * room.part + room.join);
    const auto part = [&](int64_t i) { return all + parts_at + static_cast<size_t>(i) * room.part; };
    pool().for_each(n_parts, [&](int64_t i, int thread) {
      const auto after = std::upper_bound(tiles.begin(), tiles.end(), i,
                                          [](int64_t index, const Tile& tile) { return index < tile.first_part; });
      const Tile& tile = *(after - 1);
      partial(tile, i - tile.first_part, all + slice * static_cast<size_t>(thread), part(i));
    });
    for (const Tile& tile : tiles) join(tile, part(tile.first_part), part(n_parts));
  }
};

void Attend::cut_tiles() {
  std::vector<Tile>& tiles = memory_.tiles;
  tiles.clear();
  for (const Run& run : memory_.runs) {
    for (int64_t first = 0; first < run.n(); first += kTileQueries) {
      const int64_t n = std::min(kTileQueries, run.n() - first);
      const int32_t last = run.positions[static_cast<size_t>(first + n - 1)];
      for (int kv_head = 0; kv_head < c_.model.n_kv_heads; ++kv_head)
        tiles.push_back({&run, kv_head, first, n, segments_seen(plan(run, kv_head).blocks, last)});
    }
  }
  // The longest first, so that threads end together.
  std::sort(tiles.begin(), tiles.end(), [](const Tile& a, const Tile& b) { return a.n * a.n_parts > b.n * b.n_parts; });
  int64_t n_parts = 0;
  for (Tile& tile : tiles) {
    tile.first_part = n_parts;
    n_parts += tile.n_parts;
  }
}

void Attend::fused(const Tensor& q, Tensor& z) {
  cut_tiles();
  const std::vector<Tile>& tiles = memory_.tiles;
  if (tiles.empty()) return;
  int64_t most_parts = 1, work = 0;
  AttentionArgs largest;
  largest.type = c_.cache->shape().type;
  largest.head_dim = c_.model.head_dim;
  largest.group = c_.model.group();
  largest.n_blocks = kSegmentPages;
  largest.ld_q = static_cast<int64_t>(c_.model.n_heads) * c_.model.head_dim;
  for (const Tile& tile : tiles) {
    largest.n_queries = std::max(largest.n_queries, tile.n);
    most_parts = std::max(most_parts, tile.n_parts);
    work += tile.n * tile.n_parts;
  }
  const Room room(largest, most_parts);
  const Fused job{*this, q, z, room};
  const bool even = work >= 2 * pool().size() * tiles.front().n * tiles.front().n_parts;
  if (even || most_parts == 1) {
    job.whole_tiles(tiles, most_parts);
  } else {
    job.segments(tiles);
  }
}

}  // namespace fovea::attention
