#include "fovea/kernels/attention.h"

#include "fovea/base/check.h"
#include "fovea/kernels/attention_tile.h"
#include "fovea/kernels/page_layout.h"

namespace fovea::kernels {

// Rows (query, head) that walk the pages together, so that a page is widened to float once for them.
inline constexpr int kStripRows = 192;
inline constexpr int kRowPadding = 16;

// Throws; compiled once, because formatting is made of standard-library templates.
void check_attention(const AttentionArgs& args, int head);

#if FOVEA_ISA_LEVEL == 0
void check_attention(const AttentionArgs& args, int head) {
  FOVEA_CHECK(args.head_dim >= 8 && args.head_dim <= 256 && args.head_dim % 8 == 0,
              "attention: head_dim {} is not a multiple of 8 up to 256", args.head_dim);
  FOVEA_CHECK(args.group > 0 && args.n_queries >= 0 && args.n_blocks >= 0 && args.scratch,
              "attention: {} queries in a group of {} on {} pages, and scratch must be given", args.n_queries,
              args.group, args.n_blocks);
  FOVEA_CHECK(head >= 0 && head < args.group, "attention_scores: head {} of a group of {}", head, args.group);
}

size_t attention_scratch_bytes(const AttentionArgs& args) {
  const int64_t wanted = args.n_queries * args.group;
  const size_t rows = static_cast<size_t>(wanted < kStripRows ? wanted : kStripRows) + kRowPadding;
  const size_t width = static_cast<size_t>(args.head_dim + 15) / 16 * 16;
  constexpr size_t kKeys = kTilePages * kPageKeys;
  const size_t floats = rows * (2 * width + 16 + 4)                 // q, o, l; m, position, floor, sink
                        + kRowPadding * kKeys + 2 * kKeys * width;  // s; k, v
  return (floats + 16 * 16) * sizeof(float);
}
#endif

namespace FOVEA_ISA_NS {
namespace {

constexpr float kLog2E = 1.44269504f;
constexpr float kLn2 = 0.69314718f;

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// A row sees key positions <= position that are above `floor` or below `n_sink`.
struct RowRule {
  int32_t position, floor, n_sink;
};

uint32_t visible_keys(const int32_t* positions, const RowRule& row) {
  uint32_t bits = 0;
#if FOVEA_ISA_LEVEL == 2
  for (int i = 0; i < kPageKeys; i += 16) {
    const __m512i p = _mm512_loadu_si512(positions + i);
    const __mmask16 past = _mm512_cmple_epi32_mask(p, _mm512_set1_epi32(row.position));
    const __mmask16 recent = _mm512_cmpgt_epi32_mask(p, _mm512_set1_epi32(row.floor));
    const __mmask16 sink = _mm512_cmplt_epi32_mask(p, _mm512_set1_epi32(row.n_sink));
    bits |= static_cast<uint32_t>(past & (recent | sink)) << i;
  }
#elif FOVEA_ISA_LEVEL == 1
  for (int i = 0; i < kPageKeys; i += 8) {
    const __m256i p = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(positions + i));
    const __m256i future = _mm256_cmpgt_epi32(p, _mm256_set1_epi32(row.position));
    const __m256i recent = _mm256_cmpgt_epi32(p, _mm256_set1_epi32(row.floor));
    const __m256i sink = _mm256_cmpgt_epi32(_mm256_set1_epi32(row.n_sink), p);
    const __m256i seen = _mm256_andnot_si256(future, _mm256_or_si256(recent, sink));
    bits |= static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(seen))) << i;
  }
#else
  for (int i = 0; i < kPageKeys; ++i) {
    const int32_t p = positions[i];
    if (p <= row.position && (p > row.floor || p < row.n_sink)) bits |= 1u << i;
  }
#endif
  return bits;
}

// The live positions of a tile lie in [first, last]; none: first > last.
struct TileSpan {
  int32_t first = kNoPosition, last = -1;
  bool whole = true;  // no dead slot, no missing page
};

TileSpan span_of(const KeyBlock* blocks, int n_pages) {
  TileSpan span;
  span.whole = n_pages == kTilePages;
  for (int b = 0; b < n_pages; ++b) {
    const int32_t* positions = blocks[b].positions;
    // Three plain reductions, so that the compiler can use whole registers. One past a dead slot
    // wraps to a negative number.
    int32_t first = kNoPosition, top = INT32_MIN, after = 0;
    for (int i = 0; i < kPageKeys; ++i) {
      const int32_t p = positions[i];
      const int32_t next = static_cast<int32_t>(static_cast<uint32_t>(p) + 1);
      first = p < first ? p : first;
      top = p > top ? p : top;
      after = next > after ? next : after;
    }
    span.first = first < span.first ? first : span.first;
    span.last = after - 1 > span.last ? after - 1 : span.last;
    span.whole = span.whole && top != kNoPosition;
  }
  return span;
}

// What holds for all rows of a block at once, to decide about most tiles without a look at the rows.
struct BlockRule {
  int32_t first_position = INT32_MAX, last_position = -1;
  int32_t lowest_floor = INT32_MAX, highest_floor = INT32_MIN;
  int32_t most_sinks = INT32_MIN;

  void add(const RowRule& row) {
    first_position = row.position < first_position ? row.position : first_position;
    last_position = row.position > last_position ? row.position : last_position;
    lowest_floor = row.floor < lowest_floor ? row.floor : lowest_floor;
    highest_floor = row.floor > highest_floor ? row.floor : highest_floor;
    most_sinks = row.n_sink > most_sinks ? row.n_sink : most_sinks;
  }
  bool sees_none(const TileSpan& t) const {
    return t.first > last_position || (t.last <= lowest_floor && t.first >= most_sinks);
  }
  bool sees_all(const TileSpan& t) const { return t.whole && t.last <= first_position && t.first > highest_floor; }
};

// A strip's rows in blocks of at most kMaxRows and about the same height; the last one may be padded
// with rows that see nothing.
struct Strip {
  const AttentionArgs& args;
  int64_t begin;  // first row; row = head * n_queries + query, so that neighbours are near in position
  int n_rows;
  int height;  // rows of every block but the last
  int width;   // head_dim in whole registers of any set
  float *q, *o, *l, *m, *s, *k, *v;
  RowRule* rules;

  Strip(const AttentionArgs& a, int64_t first_row, int rows)
      : args(a), begin(first_row), n_rows(rows), width((a.head_dim + 15) / 16 * 16) {
    const int n_row_blocks = (rows + kMaxRows - 1) / kMaxRows;
    height = rows_for((rows + n_row_blocks - 1) / n_row_blocks);
    float* at = static_cast<float*>(a.scratch);
    const auto take = [&at](int64_t n) {
      float* taken = at;
      at += (n + 15) / 16 * 16;
      return taken;
    };
    const int64_t padded = rows + kRowPadding;
    q = take(padded * width);
    o = take(padded * width);
    l = take(padded * 16);
    s = take(static_cast<int64_t>(kRowPadding) * kTileKeys);
    k = take(static_cast<int64_t>(kTileKeys) * width);
    v = take(static_cast<int64_t>(kTileKeys) * width);
    m = take(padded);
    rules = reinterpret_cast<RowRule*>(take(padded * 3));
  }

  int rows_at(int first) const {  // R of the block that starts there
    return n_rows - first >= height ? height : rows_for(n_rows - first);
  }
  int64_t head_of(int row) const { return (begin + row) / args.n_queries; }
  int64_t query_of(int row) const { return (begin + row) % args.n_queries; }
  RowBlock block(int first) const {
    return {q + static_cast<int64_t>(first) * args.head_dim,
            o + static_cast<int64_t>(first) * width,
            width,
            m + first,
            l + static_cast<int64_t>(first) * kLanes,
            s};
  }

  // Packs q, reads the rules and clears the state.
  void open(float scale) {
    for (int first = 0; first < n_rows; first += height) {
      const int r_block = rows_at(first);
      for (int r = 0; r < r_block; ++r) {
        const int row = first + r;
        float* packed = q + static_cast<int64_t>(first) * args.head_dim + r;
        m[row] = kMinusInfinity;
        for (int i = 0; i < kLanes; ++i) l[row * kLanes + i] = 0.0f;
        for (int d = 0; d < width; ++d) o[static_cast<int64_t>(row) * width + d] = 0.0f;
        if (row >= n_rows) {
          rules[row] = {-1, 0, 0};
          for (int d = 0; d < args.head_dim; ++d) packed[d * r_block] = 0.0f;
          continue;
        }
        const int64_t head = head_of(row), query = query_of(row);
        const KeyRule& rule = args.head_rules ? args.head_rules[head] : args.rule;
        const int32_t position = args.q_pos[query];
        rules[row] = {position, static_cast<int32_t>(int64_t{position} - rule.window), rule.n_sink};
        const float* source = args.q + query * args.ld_q + head * args.head_dim;
        for (int d = 0; d < args.head_dim; ++d) packed[d * r_block] = source[d] * scale;
      }
    }
  }

  BlockRule rule_of(int first) const {
    BlockRule all;
    for (int row = first; row < first + height && row < n_rows; ++row) all.add(rules[row]);
    return all;
  }

  // The keys that each row of a block sees in the tile; 0: none at all, 2: every key for every row.
  int look(int first, int64_t tile, int n_pages, KeyBits* bits) const {
    uint32_t any = 0, every = ~0u;
    const int r_block = rows_at(first);
    for (int r = 0; r < r_block; ++r) {
      const int row = first + r;
      for (int p = 0; p < kTilePages; ++p) {
        uint32_t seen = 0;
        if (p < n_pages && row < n_rows) {
          seen = visible_keys(args.blocks[tile + p].positions, rules[row]);
          if (args.mask) seen &= args.mask[(query_of(row) * args.group + head_of(row)) * args.n_blocks + tile + p];
        }
        bits[r][p] = seen;
        any |= seen;
        if (row < n_rows) every &= seen;
      }
    }
    return any == 0 ? 0 : every == ~0u ? 2 : 1;
  }

  void close() const {
    for (int row = 0; row < n_rows; ++row) {
      const int64_t head = head_of(row), query = query_of(row);
      const float total = sum(F32::load(l + row * kLanes));
      const float* from = o + static_cast<int64_t>(row) * width;
      float* z = args.z + query * args.ld_z + head * args.head_dim;
      const bool nothing = total == 0.0f;
      for (int d = 0; d < args.head_dim; ++d) {
        // + 0 makes -0 positive: whether 0 * v was added for unseen keys must not show.
        z[d] = nothing ? 0.0f : from[d] / total + 0.0f;
      }
      if (args.lse) {
        args.lse[query * args.group + head] = nothing ? kMinusInfinity : (m[row] + __builtin_log2f(total)) * kLn2;
      }
    }
  }
};

// K and V of one page as floats, V rows padded with zeros to `width`.
template <typename T>
void widen(const T* page, int head_dim, int width, float* k, float* v) {
  const int64_t n = static_cast<int64_t>(head_dim) * kPageKeys;
  for (int64_t i = 0; i < n; i += kLanes) F32::load(page + i).store(k + i);
  const T* values = page + n;
  if (width == head_dim) {
    for (int64_t i = 0; i < n; i += kLanes) F32::load(values + i).store(v + i);
    return;
  }
  for (int key = 0; key < kPageKeys; ++key) {
    float* to = v + static_cast<int64_t>(key) * width;
    const T* from = values + static_cast<int64_t>(key) * head_dim;
    int d = 0;
    for (; d + kLanes <= head_dim; d += kLanes) F32::load(from + d).store(to + d);
    if (d == head_dim) continue;
    // Half a register is left (head_dim is a multiple of 8): read the register that ends the row.
    float last[kLanes];
    F32::load(from + head_dim - kLanes).store(last);
    for (int i = 0; d < head_dim; ++d, ++i) to[d] = last[kLanes - (head_dim - d)];
    for (; d < width; ++d) to[d] = 0.0f;
  }
}

// q8_0.
void widen(const int8_t* page, int head_dim, int width, float* k, float* v) {
  const Q8Page at(head_dim);
  const uint16_t* k_scales = reinterpret_cast<const uint16_t*>(page + at.k_scales);
  for (int g = 0; g < at.n_groups; ++g) {
    const int begin = g * kGroupColumns;
    const int end = begin + kGroupColumns < head_dim ? begin + kGroupColumns : head_dim;
    for (int key = 0; key < kPageKeys; key += kLanes) {
      const F32 scale = F32::load(k_scales + g * kPageKeys + key);
      for (int d = begin; d < end; ++d) {
        (F32::load(page + at.k_codes + d * kPageKeys + key) * scale).store(k + d * kPageKeys + key);
      }
    }
  }
  constexpr int kMostGroups = 256 / kGroupColumns;
  float scales[kPageKeys * kMostGroups];
  const uint16_t* v_scales = reinterpret_cast<const uint16_t*>(page + at.v_scales);
  for (int i = 0; i < kPageKeys * at.n_groups; i += kLanes) F32::load(v_scales + i).store(scales + i);
  for (int key = 0; key < kPageKeys; ++key) {
    const int8_t* from = page + at.v_codes + static_cast<int64_t>(key) * head_dim;
    float* to = v + static_cast<int64_t>(key) * width;
    for (int d = 0; d < width; d += kLanes) {
      const F32 scale = F32::all(scales[key * at.n_groups + d / kGroupColumns]);
      if (d + kLanes <= head_dim) {
        (F32::load(from + d) * scale).store(to + d);
      } else {
        for (int i = d; i < d + kLanes; ++i) {  // one group: d is a multiple of kLanes, 32 of kLanes too
          to[i] = i < head_dim ? static_cast<float>(from[i]) * scales[key * at.n_groups + d / kGroupColumns] : 0.0f;
        }
      }
    }
  }
}

template <typename T>
struct Step {
  const RowBlock& block;
  const TilePages<T>& tile;
  const KeyBits* bits;
  template <int R>
  void call() const {
    tile_step<R, T>(block, tile, bits);
  }
};

template <typename T>
void attend_strip(Strip& strip) {
  const AttentionArgs& args = strip.args;
  strip.open(args.scale * kLog2E);
  constexpr bool kHalf = sizeof(T) == 2;
  constexpr bool kCodes = sizeof(T) == 1;
  const bool widened = kCodes || args.head_dim % kLanes != 0 || (kHalf && strip.n_rows > 2 * kMaxRows);
  BlockRule rules[kStripRows / kMaxRows + 1];
  BlockRule all;
  for (int row = 0; row < strip.n_rows; ++row) all.add(strip.rules[row]);
  for (int first = 0; first < strip.n_rows; first += strip.height) rules[first / strip.height] = strip.rule_of(first);

  KeyBits bits[kMaxRows];
  for (int64_t at = 0; at < args.n_blocks; at += kTilePages) {
    const int n_pages = static_cast<int>(smaller(kTilePages, args.n_blocks - at));
    const TileSpan span = span_of(args.blocks + at, n_pages);
    if (all.sees_none(span)) continue;
    TilePages<T> stored{};
    TilePages<float> floats{};
    stored.head_dim = floats.head_dim = args.head_dim;
    stored.ld_v = args.head_dim;
    floats.ld_v = strip.width;
    for (int p = 0; p < n_pages; ++p) {
      stored.k[p] = static_cast<const T*>(args.blocks[at + p].page);
      stored.v[p] = stored.k[p] + static_cast<int64_t>(args.head_dim) * kPageKeys;
      const int64_t next = smaller(at + kTilePages + p, args.n_blocks - 1);
      stored.next[p] = static_cast<const T*>(args.blocks[next].page);
      floats.k[p] = strip.k + static_cast<int64_t>(p) * kPageKeys * strip.width;
      floats.v[p] = strip.v + static_cast<int64_t>(p) * kPageKeys * strip.width;
      floats.next[p] = floats.k[p];
    }
    bool ready = false;
    for (int first = 0; first < strip.n_rows; first += strip.height) {
      const BlockRule& rule = rules[first / strip.height];
      if (rule.sees_none(span)) continue;
      int seen = 2;
      if (args.mask || !rule.sees_all(span)) seen = strip.look(first, at, n_pages, bits);
      if (seen == 0) continue;
      const KeyBits* some = seen == 2 ? nullptr : bits;
      const RowBlock block = strip.block(first);
      if (widened) {
        for (int p = 0; p < n_pages && !ready; ++p) {
          widen(stored.k[p], args.head_dim, strip.width, const_cast<float*>(floats.k[p]),
                const_cast<float*>(floats.v[p]));
        }
        ready = true;
        with_rows(strip.rows_at(first), Step<float>{block, floats, some});
      } else if constexpr (!kCodes) {
        with_rows(strip.rows_at(first), Step<T>{block, stored, some});
      }
    }
  }
  strip.close();
}

void attention(const AttentionArgs& args) {
  check_attention(args, 0);
  const int64_t n_rows = args.n_queries * args.group;
  if (n_rows == 0) return;
  const int64_t n_strips = (n_rows + kStripRows - 1) / kStripRows;
  int64_t rows = (n_rows + n_strips - 1) / n_strips;
  rows = (rows + kMaxRows - 1) / kMaxRows * kMaxRows;
  for (int64_t begin = 0; begin < n_rows; begin += rows) {
    Strip strip(args, begin, static_cast<int>(smaller(rows, n_rows - begin)));
    if (args.type == KvType::kF32) {
      attend_strip<float>(strip);
    } else if (args.type == KvType::kF16) {
      attend_strip<uint16_t>(strip);
    } else {
      attend_strip<int8_t>(strip);
    }
  }
}

template <typename T>
struct ScoreStep {
  const RowBlock& block;
  const T* const* k;
  int head_dim;
  uint32_t pages;
  template <int R>
  void call() const {
    tile_scores<R>(block.q, k, k, head_dim, pages, block.s);
  }
};

template <typename T>
struct ScoreType {
  using Type = T;
};
template <>
struct ScoreType<int8_t> {  // q8_0 is widened first
  using Type = float;
};

template <typename T>
void score_strip(Strip& strip, float* scores, int64_t ld) {
  const AttentionArgs& args = strip.args;
  strip.open(args.scale);
  KeyBits bits[kMaxRows];
  for (int64_t at = 0; at < args.n_blocks; at += kTilePages) {
    const int n_pages = static_cast<int>(smaller(kTilePages, args.n_blocks - at));
    using K = typename ScoreType<T>::Type;
    const K* k[kTilePages] = {};
    for (int p = 0; p < n_pages; ++p) {
      const T* page = static_cast<const T*>(args.blocks[at + p].page);
      if constexpr (sizeof(T) == 1) {
        float* floats = strip.k + static_cast<int64_t>(p) * kPageKeys * strip.width;
        widen(page, args.head_dim, strip.width, floats, strip.v);
        k[p] = floats;
      } else {
        k[p] = page;
      }
    }
    for (int first = 0; first < strip.n_rows; first += strip.height) {
      const RowBlock block = strip.block(first);
      if (strip.look(first, at, n_pages, bits) != 0) {
        with_rows(strip.rows_at(first), ScoreStep<K>{block, k, args.head_dim, (1u << n_pages) - 1});
      }
      for (int r = 0; r < strip.height && first + r < strip.n_rows; ++r) {
        float* out = scores + strip.query_of(first + r) * ld + at * kPageKeys;
        for (int key = 0; key < n_pages * kPageKeys; ++key) {
          const bool seen = bits[r][key / kPageKeys] >> key % kPageKeys & 1;
          out[key] = seen ? block.s[r * kTileKeys + key] : kMinusInfinity;
        }
      }
    }
  }
}

void attention_scores(const AttentionArgs& args, int head, float* scores, int64_t ld) {
  check_attention(args, head);
  const int64_t end = (head + 1) * args.n_queries;
  for (int64_t begin = head * args.n_queries; begin < end; begin += kStripRows) {
    Strip strip(args, begin, static_cast<int>(smaller(kStripRows, end - begin)));
    if (args.type == KvType::kF32) {
      score_strip<float>(strip, scores, ld);
    } else if (args.type == KvType::kF16) {
      score_strip<uint16_t>(strip, scores, ld);
    } else {
      score_strip<int8_t>(strip, scores, ld);
    }
  }
}

void attention_merge(const float* z, const float* lse, int n_parts, int head_dim, float* out) {
  float top = kMinusInfinity;
  for (int i = 0; i < n_parts; ++i) top = lse[i] > top ? lse[i] : top;
  float total = 0.0f;
  for (int d = 0; d < head_dim; ++d) out[d] = 0.0f;
  for (int i = 0; i < n_parts; ++i) {
    if (lse[i] == kMinusInfinity) continue;  // saw nothing
    float weight[kLanes];
    exp(F32::all(lse[i] - top)).store(weight);
    total += weight[0];
    for (int d = 0; d < head_dim; ++d) out[d] += weight[0] * z[static_cast<int64_t>(i) * head_dim + d];
  }
  for (int d = 0; d < head_dim && total != 0.0f; ++d) out[d] /= total;
}

}  // namespace
FOVEA_KERNEL(attention)
FOVEA_KERNEL(attention_scores)
FOVEA_KERNEL(attention_merge)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
