#include "fovea/kernels/attention.h"

#include "fovea/base/check.h"
#include "fovea/kernels/attention_codes.h"
#include "fovea/kernels/attention_tile.h"
#include "fovea/kernels/codes.h"
#include "fovea/kernels/page_layout.h"

namespace fovea::kernels {

// Rows (query, head) that walk the pages together, so that a page is read once for them.
inline constexpr int kStripRows = 192;
inline constexpr int kRowPadding = 16;
inline constexpr int kMostColumns = 256;

// Throws; compiled once, because formatting is made of standard-library templates.
void check_attention(const AttentionArgs& args, int head);

#if FOVEA_ISA_LEVEL == 0
void check_attention(const AttentionArgs& args, int head) {
  for (const int dim : {args.k_dim, args.v_dim})
    FOVEA_CHECK(dim >= 8 && dim <= kMostColumns && dim % 8 == 0, "attention: a head of {} is no multiple of 8 up to {}",
                dim, kMostColumns);
  FOVEA_CHECK((args.k_type == KvType::kF32) == (args.v_type == KvType::kF32),
              "attention: keys as {} do not go with values as {}", name_of(args.k_type), name_of(args.v_type));
  FOVEA_CHECK(args.group > 0 && args.n_queries >= 0 && args.n_blocks >= 0 && args.scratch,
              "attention: {} queries in a group of {} on {} pages, and scratch must be given", args.n_queries,
              args.group, args.n_blocks);
  FOVEA_CHECK(head >= 0 && head < args.group, "attention_scores: head {} of a group of {}", head, args.group);
}

size_t attention_scratch_bytes(const AttentionArgs& args) {
  const int64_t wanted = args.n_queries * args.group;
  const size_t rows = static_cast<size_t>(wanted < kStripRows ? wanted : kStripRows) + kRowPadding;
  const size_t k_width = static_cast<size_t>(args.k_dim + 15) / 16 * 16;
  const size_t v_width = static_cast<size_t>(args.v_dim + 15) / 16 * 16;
  constexpr size_t kKeys = kTilePages * kPageKeys;
  const size_t floats = rows * (k_width + v_width + 16 + 5)           // q, o, l; q_scales, m, position, floor, sink
                        + 2 * kRowPadding * kKeys + kKeys * v_width;  // s, w; v
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

// The live positions of a page or a tile lie in [first, last]; none: first > last.
struct KeySpan {
  int32_t first = kNoPosition, last = -1;
  bool whole = true;  // no dead slot, no missing page
};
struct TileSpan : KeySpan {
  KeySpan pages[kTilePages];
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
    first_position = row.position < first_position ? row.position : first_position;
    last_position = row.position > last_position ? row.position : last_position;
    lowest_floor = row.floor < lowest_floor ? row.floor : lowest_floor;
    highest_floor = row.floor > highest_floor ? row.floor : highest_floor;
    fewest_sinks = row.n_sink < fewest_sinks ? row.n_sink : fewest_sinks;
    most_sinks = row.n_sink > most_sinks ? row.n_sink : most_sinks;
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
    const float step = source ? largest_of(source, args.k_dim) / static_cast<float>(query_codes) : 0.0f;
    int32_t codes[kMostColumns];
    round_codes(source, args.k_dim, step >= __FLT_MIN__ ? 1.0f / step : 0.0f, query_codes, codes);
    spread_pairs(codes, args.k_dim, 2 * r_block, to);
    return step < __FLT_MIN__ ? 1.0f : step;
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

// The pages of one tile after the other, as the steps want them. open() is called for tiles with a page that some
// row may see, before the first step of any row there.
class FloatPages {  // f32
 public:
  static constexpr int kQueries = 0;
  explicit FloatPages(const Strip& strip) : strip_(strip) {}
  void open(int64_t at, int n_pages) {
    const AttentionArgs& args = strip_.args;
    const int width = strip_.width;
    tile_ = {};
    tile_.k_dim = args.k_dim, tile_.v_dim = args.v_dim;
    const bool as_stored = args.v_dim % kLanes == 0;
    tile_.ld_v = as_stored ? args.v_dim : width;
    for (int p = 0; p < n_pages; ++p) {
      tile_.k[p] = static_cast<const float*>(args.blocks[at + p].k);
      const auto* values = static_cast<const float*>(args.blocks[at + p].v);
      tile_.v[p] = values;
      if (as_stored) continue;
      float* v = strip_.v + static_cast<int64_t>(p) * kPageKeys * width;  // rows padded with zeros
      tile_.v[p] = v;
      for (int key = 0; key < kPageKeys; ++key, v += width, values += args.v_dim) {
        __builtin_memcpy(v, values, static_cast<size_t>(args.v_dim) * sizeof(float));
        for (int d = args.v_dim; d < width; ++d) v[d] = 0.0f;
      }
    }
  }
  void step(int first, const KeyBits* bits, float cap) const {
    const RowBlock block = strip_.block(first);
    with_rows(strip_.rows_at(first), [&]<int R>() { tile_step<R>(block, tile_, bits, cap); });
  }
  void scores(int first, uint32_t pages, float cap) const {
    const RowBlock block = strip_.block(first);
    const int rows = strip_.rows_at(first);
    with_rows(rows, [&]<int R>() { tile_scores<R>(block.q, tile_.k, tile_.k_dim, pages, block.s); });
    if (cap > 0) cap_scores(block.s, rows, nullptr, cap);
  }
  static float row_scale(const Strip&, int) { return 1.0f; }  // q carries it

 private:
  const Strip& strip_;
  TilePages tile_;
};

template <typename KeyCodes, typename ValueCodes>
class CodePages {  // i16, q8_0
 public:
  static constexpr int kQueries = kQueryCodes<KeyCodes>;
  explicit CodePages(const Strip& strip) : strip_(strip) {}
  void open(int64_t at, int n_pages) {
    const AttentionArgs& args = strip_.args;
    const KeyLayout<KeyCodes> keys(args.k_dim);
    const ValueLayout<ValueCodes> values(args.v_dim);
    keys_.k_dim = args.k_dim;
    values_.v_dim = args.v_dim;
    values_.any_bad = false;
    for (int p = 0; p < kTilePages; ++p) {
      const KeyBlock& page = args.blocks[at + (p < n_pages ? p : 0)];  // one that is not there is never looked at
      const KeyBlock& next = args.blocks[smaller(at + kTilePages + p, args.n_blocks - 1)];
      keys_.k[p] = static_cast<const typename KeyCodes::Code*>(page.k);
      keys_.next[p] = static_cast<const typename KeyCodes::Code*>(next.k);
      values_.v[p] = static_cast<const typename ValueCodes::Code*>(page.v);
      values_.next[p] = static_cast<const typename ValueCodes::Code*>(next.v);
      const auto* k_scales = reinterpret_cast<const uint16_t*>(static_cast<const char*>(page.k) + keys.scales);
      const auto* v_scales = reinterpret_cast<const uint16_t*>(static_cast<const char*>(page.v) + values.scales);
      uint32_t high[kPageKeys];
      for (int g = 0; g < keys.n_groups; ++g) {
        for (int i = 0; i < kPageKeys; ++i) high[i] = uint32_t{k_scales[g * kPageKeys + i]} << 16;
        __builtin_memcpy(keys_.scales[g] + p * kPageKeys, high, sizeof high);
      }
      uint32_t not_finite = 0;
      for (int i = 0; i < kPageKeys; ++i) {
        high[i] = uint32_t{v_scales[i]} << 16;
        not_finite |= high[i] >= 0x7f800000u;
      }
      values_.bad[p] = 0;
      for (int i = 0; i < kPageKeys && not_finite; ++i) {
        if (high[i] < 0x7f800000u) continue;
        values_.bad[p] |= 1u << i;
        high[i] = 0;
      }
      values_.any_bad = values_.any_bad || not_finite;
      __builtin_memcpy(values_.scales + p * kPageKeys, high, sizeof high);
    }
  }
  void step(int first, const KeyBits* bits, float cap) const {
    const CodeRows rows = strip_.code_rows(first);
    with_rows(strip_.rows_at(first), [&]<int R>() {
      const Seen seen = seen_of(bits, R);
      key_step<R>(rows, keys_, seen.pages, cap);
      value_step<R>(rows, values_, bits, seen);
    });
  }
  void scores(int first, uint32_t pages, float cap) const {
    const CodeRows rows = strip_.code_rows(first);
    with_rows(strip_.rows_at(first), [&]<int R>() { key_step<R>(rows, keys_, pages, cap); });
  }
  static float row_scale(const Strip& strip, int row) { return strip.q_scales[row]; }

 private:
  const Strip& strip_;
  KeyTile<KeyCodes> keys_;
  ValueTile<ValueCodes> values_;
};

// Calls f with the class of pages that args has.
template <typename F>
FOVEA_INLINE void with_pages(const AttentionArgs& args, const F& f) {
  if (args.k_type == KvType::kF32) return f.template operator()<FloatPages>();
  const bool k16 = args.k_type == KvType::kI16, v16 = args.v_type == KvType::kI16;
  if (k16 && v16) return f.template operator()<CodePages<I16Codes, I16Codes>>();
  if (k16) return f.template operator()<CodePages<I16Codes, Q8Codes>>();
  if (v16) return f.template operator()<CodePages<Q8Codes, I16Codes>>();
  return f.template operator()<CodePages<Q8Codes, Q8Codes>>();
}

template <typename Pages>
void attend_strip(Strip& strip, bool is_open) {
  const AttentionArgs& args = strip.args;
  if (is_open) {
    strip.begin_rows();
  } else {
    strip.open(args.scale * kLog2E, Pages::kQueries);
  }
  BlockRule rules[kStripRows / kMaxRows + 1];
  BlockRule all;
  for (int first = 0, block = 0; first < strip.n_rows; first += strip.height, ++block) {
    rules[block] = strip.rule_of(first);
    all.add(rules[block]);
  }

  const float cap = args.softcap * kLog2E;
  KeyBits bits[kMaxRows];
  Pages pages(strip);
  for (int64_t at = 0; at < args.n_blocks; at += kTilePages) {
    const int n_pages = static_cast<int>(smaller(kTilePages, args.n_blocks - at));
    bool masked = false;
    for (int p = 0; p < n_pages && args.masks; ++p) masked = masked || args.masks[at + p];
    const TileSpan span = span_of(args.blocks + at, n_pages);
    if (all.sees_none(span)) continue;
    bool open = false;
    for (int first = 0, block = 0; first < strip.n_rows; first += strip.height, ++block) {
      const BlockRule& rule = rules[block];
      if (rule.sees_none(span)) continue;
      int seen = 2;
      if (masked || !rule.sees_all(span)) seen = strip.look(first, at, n_pages, span, rule, bits);
      if (seen == 0) continue;
      if (!open) pages.open(at, n_pages);
      open = true;
      pages.step(first, seen == 2 ? nullptr : bits, cap);
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
    with_pages(args, [&]<typename Pages>() { attend_strip<Pages>(strip, args.same_rows && n_strips == 1); });
  }
}

// A score, and not the -inf of a key that the row does not see; true of NaN.
FOVEA_INLINE F32::Mask is_seen(F32 score) { return not_less(score, F32::all(-__FLT_MAX__)); }

// Calls put(row of the strip, first slot, n, scores) for every row and tile; scores without scale, -inf where the row
// does not see the key.
template <typename Pages, typename Put>
FOVEA_INLINE void score_strip(Strip& strip, const Put& put) {
  const AttentionArgs& args = strip.args;
  strip.open(args.scale, Pages::kQueries);
  KeyBits bits[kMaxRows];
  Pages pages(strip);
  for (int64_t at = 0; at < args.n_blocks; at += kTilePages) {
    const int n_pages = static_cast<int>(smaller(kTilePages, args.n_blocks - at));
    pages.open(at, n_pages);
    const TileSpan span = span_of(args.blocks + at, n_pages);
    for (int first = 0; first < strip.n_rows; first += strip.height) {
      const int looked = strip.look(first, at, n_pages, span, strip.rule_of(first), bits);
      if (looked != 0) pages.scores(first, (1u << n_pages) - 1, args.softcap);
      for (int r = 0; r < strip.height && first + r < strip.n_rows; ++r) {
        float* s = strip.s + r * kTileKeys;
        for (int i = 0; i < n_pages * kPageKeys; i += kLanes) {
          const F32 seen = looked == 0 ? F32::all(kMinusInfinity)
                                       : select(mask_of(bits[r][i / kPageKeys] >> i % kPageKeys), F32::load(s + i),
                                                F32::all(kMinusInfinity));
          seen.store(s + i);
        }
        put(first + r, at * kPageKeys, n_pages * kPageKeys, s);
      }
    }
  }
}

// Strips of one head's rows, with the row each begins at.
template <typename F>
FOVEA_INLINE void each_strip(const AttentionArgs& args, int head, const F& f) {
  const int64_t end = (head + 1) * args.n_queries;
  for (int64_t begin = head * args.n_queries; begin < end; begin += kStripRows) {
    Strip strip(args, begin, static_cast<int>(smaller(kStripRows, end - begin)));
    f(strip);
  }
}

void attention_scores(const AttentionArgs& args, int head, float* scores, int64_t ld) {
  check_attention(args, head);
  each_strip(args, head, [&](Strip& strip) {
    with_pages(args, [&]<typename Pages>() {
      score_strip<Pages>(strip, [&](int row, int64_t slot, int n, const float* s) {
        const F32 scale = F32::all(Pages::row_scale(strip, row));
        float* out = scores + strip.query_of(row) * ld + slot;
        for (int i = 0; i < n; i += kLanes) {
          const F32 x = F32::load(s + i);
          select(is_seen(x), x * scale, F32::all(kMinusInfinity)).store(out + i);
        }
      });
    });
  });
}

void attention_columns(const AttentionArgs& args, int head, const float* lse, float* sums) {
  check_attention(args, head);
  each_strip(args, head, [&](Strip& strip) {
    with_pages(args, [&]<typename Pages>() {
      score_strip<Pages>(strip, [&](int row, int64_t slot, int n, const float* s) {
        const float total = lse[strip.query_of(row) * args.group + head];
        if (total == kMinusInfinity) return;
        const F32 scale = F32::all(Pages::row_scale(strip, row) * kLog2E), by = F32::all(-total * kLog2E);
        float* out = sums + slot;
        for (int i = 0; i < n; i += kLanes) {
          // Rounding may leave a score just above its row's total.
          const F32 x = F32::load(s + i), p = exp2_nonpositive(min(F32::zero(), mul_add(x, scale, by)));
          (F32::load(out + i) + keep(is_seen(x), p)).store(out + i);
        }
      });
    });
  });
}

// z [v_dim] += weights of the 32 slots times their values.
void add_values(const float* values, int v_dim, const float* w, float* z) {
  for (int slot = 0; slot < kPageKeys; ++slot, values += v_dim) {
    if (w[slot] == 0.0f) continue;
    int d = 0;
    const F32 by = F32::all(w[slot]);
    for (; d + kLanes <= v_dim; d += kLanes) mul_add(by, F32::load(values + d), F32::load(z + d)).store(z + d);
    const int left = v_dim - d;
    if (left > 0) mul_add(by, F32::load_first(values + d, left), F32::load_first(z + d, left)).store_first(z + d, left);
  }
}
template <typename Codes>
void add_values(const void* page, int v_dim, const float* w, float* z) {
  const auto* codes = static_cast<const typename Codes::Code*>(page);
  const auto* scales =
      reinterpret_cast<const uint16_t*>(static_cast<const char*>(page) + ValueLayout<Codes>(v_dim).scales);
  for (int pair = 0; pair < kPageKeys / 2; ++pair, codes += 2 * v_dim) {
    if (w[2 * pair] == 0.0f && w[2 * pair + 1] == 0.0f) continue;
    float by[2];
    for (int i = 0; i < 2; ++i) {
      const uint32_t high = uint32_t{scales[2 * pair + i]} << 16;
      float scale;
      __builtin_memcpy(&scale, &high, sizeof scale);
      by[i] = w[2 * pair + i] == 0.0f ? 0.0f : w[2 * pair + i] * scale;
    }
    for (int d = 0; d < v_dim; ++d) {
      z[d] += by[0] * static_cast<float>(codes[2 * d]) + by[1] * static_cast<float>(codes[2 * d + 1]);
    }
  }
}

void attention_values(const AttentionArgs& args, int head, const float* weights, int64_t ld) {
  check_attention(args, head);
  for (int64_t i = 0; i < args.n_queries; ++i) {
    float* z = args.z + i * args.ld_z + static_cast<int64_t>(head) * args.v_dim;
    for (int d = 0; d < args.v_dim; ++d) z[d] = 0.0f;
  }
  for (int64_t b = 0; b < args.n_blocks; ++b) {
    const void* page = args.blocks[b].v;
    for (int64_t i = 0; i < args.n_queries; ++i) {
      const float* w = weights + i * ld + b * kPageKeys;
      float* z = args.z + i * args.ld_z + static_cast<int64_t>(head) * args.v_dim;
      switch (args.v_type) {
        case KvType::kF32: add_values(static_cast<const float*>(page), args.v_dim, w, z); break;
        case KvType::kI16: add_values<I16Codes>(page, args.v_dim, w, z); break;
        case KvType::kQ8_0: add_values<Q8Codes>(page, args.v_dim, w, z); break;
      }
    }
  }
}

// out = sum of powers z / total over the parts that have a row there.
void merge_row(const MergeArgs& args, int64_t row, float total) {
  constexpr int kTogether = 32;  // parts whose rows are added up in registers
  float* out = args.out[row];
  for (int first = 0; first < args.n_parts || first == 0; first += kTogether) {
    const float* rows[kTogether];
    float powers[kTogether];
    int n = 0;
    for (int i = first; i < first + kTogether && i < args.n_parts; ++i) {
      if (args.lse[i][row] == kMinusInfinity) continue;
      rows[n] = args.z[i] + row * args.v_dim;
      powers[n++] = args.shares[i * args.n_rows + row];
    }
    const bool begins = first == 0, ends = first + kTogether >= args.n_parts && total != 0.0f;
    int d = 0;
    for (; d + kLanes <= args.v_dim; d += kLanes) {
      F32 sum = begins ? F32::zero() : F32::load(out + d);
      for (int i = 0; i < n; ++i) sum = sum + F32::all(powers[i]) * F32::load(rows[i] + d);
      (ends ? sum / F32::all(total) : sum).store(out + d);
    }
    for (; d < args.v_dim; ++d) {
      float sum = begins ? 0.0f : out[d];
      for (int i = 0; i < n; ++i) sum += powers[i] * rows[i][d];
      out[d] = ends ? sum / total : sum;
    }
  }
}

void attention_merge(const MergeArgs& args) {
  const auto n_parts = static_cast<int64_t>(args.n_parts);
  for (int64_t first = 0; first < args.n_rows; first += kLanes) {
    const int n = static_cast<int>(smaller(kLanes, args.n_rows - first));
    const auto lse = [&](int64_t i) { return F32::load_first(args.lse[i] + first, n) + F32::all(args.biases[i]); };
    const auto shares = [&](int64_t i) { return args.shares + i * args.n_rows + first; };
    F32 top = F32::all(kMinusInfinity), total = F32::zero();
    for (int64_t i = 0; i < n_parts; ++i) {
      const F32 x = lse(i);
      top = select(not_less(top, x), top, x);
    }
    for (int64_t i = 0; i < n_parts; ++i) {
      const F32 x = lse(i), power = keep(is_seen(x), exp(x - top));
      power.store_first(shares(i), n);
      total = total + power;
    }
    float totals[kLanes], tops[kLanes];
    total.store(totals), top.store(tops);
    for (int r = 0; r < n; ++r) merge_row(args, first + r, totals[r]);
    for (int64_t i = 0; i < n_parts; ++i) {
      const F32 power = F32::load_first(shares(i), n);
      keep(is_seen(top), power / total).store_first(shares(i), n);
    }
    for (int r = 0; r < n && args.out_lse; ++r) {
      args.out_lse[first + r] = totals[r] == 0.0f ? kMinusInfinity : tops[r] + __builtin_log2f(totals[r]) * kLn2;
    }
  }
}

}  // namespace
FOVEA_KERNEL(attention)
FOVEA_KERNEL(attention_scores)
FOVEA_KERNEL(attention_values)
FOVEA_KERNEL(attention_columns)
FOVEA_KERNEL(attention_merge)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
