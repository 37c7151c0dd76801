// Rows that walk a list of pages together: what each may see, and its state of the online softmax. For attention.cc
// only.
#pragma once

#include <cstdint>

#include "fovea/kernels/attention.h"
#include "fovea/kernels/attention_codes.h"
#include "fovea/kernels/attention_tile.h"

namespace fovea::kernels {

// Rows (query, head) that walk the pages together, so that a page is read once for them.
inline constexpr int kStripRows = 192;
inline constexpr int kRowPadding = 16;
inline constexpr int kMostColumns = 256;

namespace FOVEA_ISA_NS {

constexpr float kLog2E = 1.44269504f;
constexpr float kLn2 = 0.69314718f;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// A row sees key positions <= position that are above `floor` or below `n_sink`.
struct RowRule {
  int32_t position, floor, n_sink;
};

inline uint32_t visible_keys(const int32_t* positions, const RowRule& row) {
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

// The live positions of a page or a tile lie in [first, last]; none: first > last.
struct KeySpan {
  int32_t first = kNoPosition, last = -1;
  bool whole = true;  // no dead slot, no missing page
};
struct TileSpan : KeySpan {
  KeySpan pages[kTilePages];
};

inline TileSpan span_of(const KeyBlock* blocks, int n_pages) {
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
    const KeySpan page{first, after - 1, top != kNoPosition};
    span.pages[b] = page;
    span.first = page.first < span.first ? page.first : span.first;
    span.last = page.last > span.last ? page.last : span.last;
    span.whole = span.whole && page.whole;
  }
  return span;
}

// What holds for all rows of a block at once, to decide about most tiles without a look at the rows.
struct BlockRule {
  int32_t first_position = INT32_MAX, last_position = -1;
  int32_t lowest_floor = INT32_MAX, highest_floor = INT32_MIN;
  int32_t fewest_sinks = INT32_MAX, most_sinks = INT32_MIN;

  void add(const RowRule& row) {
    add(BlockRule{row.position, row.position, row.floor, row.floor, row.n_sink, row.n_sink});
  }
  void add(const BlockRule& rows) {
    first_position = rows.first_position < first_position ? rows.first_position : first_position;
    last_position = rows.last_position > last_position ? rows.last_position : last_position;
    lowest_floor = rows.lowest_floor < lowest_floor ? rows.lowest_floor : lowest_floor;
    highest_floor = rows.highest_floor > highest_floor ? rows.highest_floor : highest_floor;
    fewest_sinks = rows.fewest_sinks < fewest_sinks ? rows.fewest_sinks : fewest_sinks;
    most_sinks = rows.most_sinks > most_sinks ? rows.most_sinks : most_sinks;
  }
  bool sees_none(const KeySpan& t) const {
    return t.first > last_position || (t.last <= lowest_floor && t.first >= most_sinks);
  }
  bool sees_all(const KeySpan& t) const { return t.whole && t.last <= first_position && t.first > highest_floor; }
  // Whatever they see of it: its live keys all lie within every row's window, or all before it.
  bool sees_the_same(const KeySpan& t) const {
    return t.last <= first_position &&
           (t.first > highest_floor || (t.last <= lowest_floor && fewest_sinks == most_sinks));
  }
};

// A strip's rows in blocks of at most kMaxRows and about the same height; the last one may be padded
// with rows that see nothing.
struct Strip {
  const AttentionArgs& args;
  int64_t begin;  // first row; row = head * n_queries + query, so that neighbours are near in position
  int n_rows;
  int height;          // rows of every block but the last
  int k_width, width;  // k_dim and v_dim in whole registers of any set
  float *q, *o, *l, *m, *s, *w, *v, *q_scales;
  RowRule* rules;

  Strip(const AttentionArgs& a, int64_t first_row, int rows)
      : args(a), begin(first_row), n_rows(rows), k_width((a.k_dim + 15) / 16 * 16), width((a.v_dim + 15) / 16 * 16) {
    const int n_row_blocks = (rows + kMaxRows - 1) / kMaxRows;
    height = rows_for((rows + n_row_blocks - 1) / n_row_blocks);
    float* at = static_cast<float*>(a.scratch);
    const auto take = [&at](int64_t n) {
      float* taken = at;
      at += (n + 15) / 16 * 16;
      return taken;
    };
    const int64_t padded = rows + kRowPadding;
    q = take(padded * k_width);
    o = take(padded * width);
    l = take(padded * 16);
    s = take(static_cast<int64_t>(kRowPadding) * kTileKeys);
    w = take(static_cast<int64_t>(kRowPadding) * kTileKeys);
    v = take(static_cast<int64_t>(kTileKeys) * width);
    m = take(padded);
    q_scales = take(padded);
    rules = reinterpret_cast<RowRule*>(take(padded * 3));
  }

  int rows_at(int first) const {  // R of the block that starts there
    return n_rows - first >= height ? height : rows_for(n_rows - first);
  }
  int64_t head_of(int row) const { return (begin + row) / args.n_queries; }
  int64_t query_of(int row) const { return (begin + row) % args.n_queries; }
  // fn(row, head, query) for every row: without the divisions, which are a tenth of what opens and closes a row.
  template <typename F>
  FOVEA_INLINE void each_row(const F& fn) const {
    int64_t head = head_of(0), query = query_of(0);
    for (int row = 0; row < n_rows; ++row) {
      fn(row, head, query);
      if (++query == args.n_queries) query = 0, ++head;
    }
  }
  RowBlock block(int first) const {
    return {q + static_cast<int64_t>(first) * args.k_dim,
            o + static_cast<int64_t>(first) * width,
            width,
            m + first,
            l + static_cast<int64_t>(first) * kLanes,
            s};
  }
  int16_t* q_codes(int first) const { return reinterpret_cast<int16_t*>(q) + static_cast<int64_t>(first) * args.k_dim; }
  CodeRows code_rows(int first) const {
    return {q_codes(first),
            q_scales + first,
            o + static_cast<int64_t>(first) * width,
            width,
            m + first,
            l + static_cast<int64_t>(first) * kLanes,
            s,
            reinterpret_cast<int16_t*>(w)};
  }

  const float* query_at(int row) const { return args.q + query_of(row) * args.ld_q + head_of(row) * args.k_dim; }
  // Rows lie far from each other: without this each one begins with misses.
  void prefetch_query(int row) const {
    if (row >= n_rows) return;
    const float* source = query_at(row);
    for (int d = 0; d < args.k_dim; d += 16) __builtin_prefetch(source + d);
  }

  // Packs q (as codes up to `query_codes`; 0: as floats) and begins.
  void open(float scale, int query_codes) {
    constexpr int kAhead = 4;
    begin_rows();
    for (int row = 0; row < kAhead; ++row) prefetch_query(row);
    for (int first = 0; first < n_rows; first += height) {
      const int r_block = rows_at(first);
      for (int r = 0; r < r_block; ++r) {
        const int row = first + r;
        prefetch_query(row + kAhead);
        const float* source = row < n_rows ? query_at(row) : nullptr;  // a padded row sees nothing
        if (query_codes > 0) {
          q_scales[row] = pack_codes(source, query_codes, q_codes(first) + 2 * r, r_block) * scale;
        } else {
          float* packed = q + static_cast<int64_t>(first) * args.k_dim + r;
          for (int d = 0; d < args.k_dim; ++d) packed[d * r_block] = source ? source[d] * scale : 0.0f;
        }
      }
    }
  }

  // Reads the rules; the state of rows that have seen nothing, the padded ones too.
  void begin_rows() {
    int rows = 0;
    for (int first = 0; first < n_rows; first += height) rows = first + rows_at(first);
    for (int row = n_rows; row < rows; ++row) rules[row] = {-1, 0, 0};
    each_row([this](int row, int64_t head, int64_t query) {
      const KeyRule& rule = args.head_rules ? args.head_rules[head] : args.rule;
      const int32_t position = args.q_pos[query];
      rules[row] = {static_cast<int32_t>(smaller(int64_t{position} + rule.ahead, kNoPosition - 1)),
                    static_cast<int32_t>(int64_t{position} - rule.window), rule.n_sink};
    });
    for (int row = 0; row < rows; ++row) m[row] = kMinusInfinity;
    __builtin_memset(l, 0, static_cast<size_t>(rows) * kLanes * sizeof(float));
    __builtin_memset(o, 0, static_cast<size_t>(rows) * static_cast<size_t>(width) * sizeof(float));
  }

  // A row of q (null: zeros) as codes [k_dim / 2][r_block][2] -> its scale: above 0, or NaN.
  float pack_codes(const float* source, int query_codes, int16_t* to, int r_block) const {
    int32_t codes[kMostColumns];
    const float step = round_query(source, args.k_dim, args.k_type == KvType::kQ8_0, query_codes, codes);
    spread_pairs(codes, args.k_dim, 2 * r_block, to);
    return step;
  }

  BlockRule rule_of(int first) const {
    BlockRule all;
    for (int row = first; row < first + height && row < n_rows; ++row) all.add(rules[row]);
    return all;
  }

  // The keys that each row of a block sees in the tile; 0: none at all, 2: every key for every row.
  int look(int first, int64_t tile, int n_pages, const TileSpan& span, const BlockRule& rule, KeyBits* bits) const {
    uint32_t any = 0, every = ~0u;
    const int r_block = rows_at(first);
    // Of most pages the rule alone says what all rows see.
    bool same[kTilePages];
    uint32_t seen_by_all[kTilePages] = {};
    for (int p = 0; p < kTilePages; ++p) {
      const bool none = p >= n_pages || rule.sees_none(span.pages[p]);
      same[p] = none || rule.sees_the_same(span.pages[p]);
      if (same[p] && !none) seen_by_all[p] = visible_keys(args.blocks[tile + p].positions, rules[first]);
    }
    for (int r = 0; r < r_block; ++r) {
      const int row = first + r;
      for (int p = 0; p < kTilePages; ++p) {
        uint32_t seen = 0;
        if (row < n_rows) {
          seen = same[p] ? seen_by_all[p] : visible_keys(args.blocks[tile + p].positions, rules[row]);
          const uint32_t* mask = args.masks && seen != 0 ? args.masks[tile + p] : nullptr;
          if (mask) seen &= mask[begin + row];
        }
        bits[r][p] = seen;
        any |= seen;
        if (row < n_rows) every &= seen;
      }
    }
    return any == 0 ? 0 : every == ~0u ? 2 : 1;
  }

  // One loop after the other: a row's sum, logarithm and divisions wait for each other, those of two rows do not.
  void close() const {
    float* totals = s;  // of n_rows
    for (int row = 0; row < n_rows; ++row) totals[row] = sum(F32::load(l + row * kLanes));
    if (args.lse) {
      each_row([this, totals](int row, int64_t head, int64_t query) {
        const float total = totals[row];
        args.lse[query * args.group + head] = total == 0.0f ? kMinusInfinity : (m[row] + __builtin_log2f(total)) * kLn2;
      });
    }
    each_row([this, totals](int row, int64_t head, int64_t query) {
      const float total = totals[row];
      const float* from = o + static_cast<int64_t>(row) * width;
      float* z = args.z + query * args.ld_z + head * args.v_dim;
      const bool nothing = total == 0.0f;
      for (int d = 0; d < args.v_dim; ++d) {
        // + 0 makes -0 positive: whether 0 * v was added for unseen keys must not show.
        z[d] = nothing ? 0.0f : from[d] / total + 0.0f;
      }
    });
  }
};

}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
