#include "fovea/kernels/attention.h"

#include "fovea/base/check.h"
#include "fovea/kernels/attention_codes.h"
#include "fovea/kernels/attention_tile.h"
#include "fovea/kernels/page_layout.h"

namespace fovea::kernels {

// Rows (query, head) that walk the pages together, so that a page is read once for them.
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
  const size_t floats = rows * (2 * width + 16 + 5)                 // q, o, l; q_scales, m, position, floor, sink
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
  float *q, *o, *l, *m, *s, *k, *v, *q_scales;
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
    q_scales = take(padded);
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
  int16_t* q_codes(int first) const {
    return reinterpret_cast<int16_t*>(q) + static_cast<int64_t>(first) * args.head_dim;
  }
  CodeRows code_rows(int first) const {
    return {q_codes(first),
            q_scales + first,
            o + static_cast<int64_t>(first) * width,
            width,
            m + first,
            l + static_cast<int64_t>(first) * kLanes,
            s,
            reinterpret_cast<int16_t*>(k)};
  }

  // Packs q (as codes up to `query_codes`; 0: as floats), reads the rules and clears the state.
  void open(float scale, int query_codes) {
    for (int first = 0; first < n_rows; first += height) {
      const int r_block = rows_at(first);
      for (int r = 0; r < r_block; ++r) {
        const int row = first + r;
        m[row] = kMinusInfinity;
        for (int i = 0; i < kLanes; ++i) l[row * kLanes + i] = 0.0f;
        for (int d = 0; d < width; ++d) o[static_cast<int64_t>(row) * width + d] = 0.0f;
        const float* source = nullptr;  // a padded row sees nothing
        rules[row] = {-1, 0, 0};
        if (row < n_rows) {
          const int64_t head = head_of(row), query = query_of(row);
          const KeyRule& rule = args.head_rules ? args.head_rules[head] : args.rule;
          const int32_t position = args.q_pos[query];
          rules[row] = {position, static_cast<int32_t>(int64_t{position} - rule.window), rule.n_sink};
          source = args.q + query * args.ld_q + head * args.head_dim;
        }
        if (query_codes > 0) {
          q_scales[row] = pack_codes(source, query_codes, q_codes(first) + 2 * r, r_block) * scale;
        } else {
          float* packed = q + static_cast<int64_t>(first) * args.head_dim + r;
          for (int d = 0; d < args.head_dim; ++d) packed[d * r_block] = source ? source[d] * scale : 0.0f;
        }
      }
    }
  }

  // A row of q (null: zeros) as codes [head_dim / 2][r_block][2] -> its scale: above 0, or NaN.
  float pack_codes(const float* source, int query_codes, int16_t* to, int r_block) const {
    float largest = 0.0f, zeros = 0.0f;
    for (int d = 0; d < args.head_dim && source; ++d) {
      largest = __builtin_fabsf(source[d]) > largest ? __builtin_fabsf(source[d]) : largest;
      zeros += source[d] * 0.0f;  // NaN if one is not finite
    }
    const float step = largest / static_cast<float>(query_codes) + zeros;
    const float up = step >= __FLT_MIN__ ? 1.0f / step : 0.0f;
    for (int d = 0; d < args.head_dim; ++d) {
      const float code = source && up > 0.0f ? __builtin_nearbyintf(source[d] * up) : 0.0f;
      to[d / 2 * 2 * r_block + d % 2] = static_cast<int16_t>(code);
    }
    return step < __FLT_MIN__ ? 1.0f : step;
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

// K and V of a page of floats, V rows padded with zeros to `width`.
void widen(const float* page, int head_dim, int width, float* k, float* v) {
  const int64_t n = static_cast<int64_t>(head_dim) * kPageKeys;
  __builtin_memcpy(k, page, static_cast<size_t>(n) * sizeof(float));
  for (int key = 0; key < kPageKeys; ++key) {
    float* to = v + static_cast<int64_t>(key) * width;
    __builtin_memcpy(to, page + n + static_cast<int64_t>(key) * head_dim,
                     static_cast<size_t>(head_dim) * sizeof(float));
    for (int d = head_dim; d < width; ++d) to[d] = 0.0f;
  }
}

// The pages of one tile after the other, as the steps want them. open() is called for tiles with a page that some
// row may see, before the first step of any row there.
class FloatPages {  // f32
 public:
  static constexpr int kQueries = 0;
  explicit FloatPages(const Strip& strip) : strip_(strip) {}
  void open(int64_t at, int n_pages) {
    const AttentionArgs& args = strip_.args;
    const int head_dim = args.head_dim, width = strip_.width;
    tile_ = {};
    tile_.head_dim = head_dim;
    const bool as_stored = head_dim % kLanes == 0;
    tile_.ld_v = as_stored ? head_dim : width;
    for (int p = 0; p < n_pages; ++p) {
      const auto* page = static_cast<const float*>(args.blocks[at + p].page);
      float* k = strip_.k + static_cast<int64_t>(p) * kPageKeys * width;
      float* v = strip_.v + static_cast<int64_t>(p) * kPageKeys * width;
      tile_.k[p] = as_stored ? page : k;
      tile_.v[p] = as_stored ? tile_.k[p] + static_cast<int64_t>(head_dim) * kPageKeys : v;
      if (!as_stored) widen(page, head_dim, width, k, v);
    }
  }
  void step(int first, const KeyBits* bits) const {
    const RowBlock block = strip_.block(first);
    with_rows(strip_.rows_at(first), [&]<int R>() { tile_step<R>(block, tile_, bits); });
  }
  void scores(int first, uint32_t pages) const {
    const RowBlock block = strip_.block(first);
    with_rows(strip_.rows_at(first),
              [&]<int R>() { tile_scores<R>(block.q, tile_.k, tile_.head_dim, pages, block.s); });
  }
  static float row_scale(const Strip&, int) { return 1.0f; }  // q carries it

 private:
  const Strip& strip_;
  TilePages tile_;
};

template <typename Codes>
class CodePages {  // i16, q8_0
  using Code = typename Codes::Code;

 public:
  static constexpr int kQueries = kQueryCodes<Codes>;
  explicit CodePages(const Strip& strip) : strip_(strip) {}
  void open(int64_t at, int n_pages) {
    const AttentionArgs& args = strip_.args;
    const CodePage<Codes> layout(args.head_dim);
    tile_.head_dim = args.head_dim;
    tile_.any_bad = false;
    for (int p = 0; p < kTilePages; ++p) {
      const int64_t index = at + (p < n_pages ? p : 0);  // a page that is not there is never looked at
      const auto* page = static_cast<const char*>(args.blocks[index].page);
      tile_.k[p] = reinterpret_cast<const Code*>(page);
      tile_.v[p] = reinterpret_cast<const Code*>(page + layout.v_codes);
      tile_.next[p] = static_cast<const Code*>(args.blocks[smaller(at + kTilePages + p, args.n_blocks - 1)].page);
      const auto* k_scales = reinterpret_cast<const uint16_t*>(page + layout.k_scales);
      const auto* v_scales = reinterpret_cast<const uint16_t*>(page + layout.v_scales);
      uint32_t high[kPageKeys];
      for (int g = 0; g < layout.n_groups; ++g) {
        for (int i = 0; i < kPageKeys; ++i) high[i] = uint32_t{k_scales[g * kPageKeys + i]} << 16;
        __builtin_memcpy(tile_.k_scales[g] + p * kPageKeys, high, sizeof high);
      }
      uint32_t not_finite = 0;
      for (int i = 0; i < kPageKeys; ++i) {
        high[i] = uint32_t{v_scales[i]} << 16;
        not_finite |= high[i] >= 0x7f800000u;
      }
      tile_.bad[p] = 0;
      for (int i = 0; i < kPageKeys && not_finite; ++i) {
        if (high[i] < 0x7f800000u) continue;
        tile_.bad[p] |= 1u << i;
        high[i] = 0;
      }
      tile_.any_bad = tile_.any_bad || not_finite;
      __builtin_memcpy(tile_.v_scales + p * kPageKeys, high, sizeof high);
    }
  }
  void step(int first, const KeyBits* bits) const {
    const CodeRows rows = strip_.code_rows(first);
    with_rows(strip_.rows_at(first), [&]<int R>() { code_step<R>(rows, tile_, bits); });
  }
  void scores(int first, uint32_t pages) const {
    const CodeRows rows = strip_.code_rows(first);
    with_rows(strip_.rows_at(first), [&]<int R>() { code_scores<R>(rows.q, tile_, pages, rows.s); });
  }
  static float row_scale(const Strip& strip, int row) { return strip.q_scales[row]; }

 private:
  const Strip& strip_;
  CodeTile<Codes> tile_;
};

template <typename Pages>
void attend_strip(Strip& strip) {
  const AttentionArgs& args = strip.args;
  strip.open(args.scale * kLog2E, Pages::kQueries);
  BlockRule rules[kStripRows / kMaxRows + 1];
  BlockRule all;
  for (int row = 0; row < strip.n_rows; ++row) all.add(strip.rules[row]);
  for (int first = 0; first < strip.n_rows; first += strip.height) rules[first / strip.height] = strip.rule_of(first);

  KeyBits bits[kMaxRows];
  Pages pages(strip);
  for (int64_t at = 0; at < args.n_blocks; at += kTilePages) {
    const int n_pages = static_cast<int>(smaller(kTilePages, args.n_blocks - at));
    const TileSpan span = span_of(args.blocks + at, n_pages);
    if (all.sees_none(span)) continue;
    bool open = false;
    for (int first = 0; first < strip.n_rows; first += strip.height) {
      const BlockRule& rule = rules[first / strip.height];
      if (rule.sees_none(span)) continue;
      int seen = 2;
      if (args.mask || !rule.sees_all(span)) seen = strip.look(first, at, n_pages, bits);
      if (seen == 0) continue;
      if (!open) pages.open(at, n_pages);
      open = true;
      pages.step(first, seen == 2 ? nullptr : bits);
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
    switch (args.type) {
      case KvType::kF32: attend_strip<FloatPages>(strip); break;
      case KvType::kI16: attend_strip<CodePages<I16Codes>>(strip); break;
      case KvType::kQ8_0: attend_strip<CodePages<Q8Codes>>(strip); break;
    }
  }
}

template <typename Pages>
void score_strip(Strip& strip, float* scores, int64_t ld) {
  const AttentionArgs& args = strip.args;
  strip.open(args.scale, Pages::kQueries);
  KeyBits bits[kMaxRows];
  Pages pages(strip);
  for (int64_t at = 0; at < args.n_blocks; at += kTilePages) {
    const int n_pages = static_cast<int>(smaller(kTilePages, args.n_blocks - at));
    pages.open(at, n_pages);
    for (int first = 0; first < strip.n_rows; first += strip.height) {
      if (strip.look(first, at, n_pages, bits) != 0) pages.scores(first, (1u << n_pages) - 1);
      for (int r = 0; r < strip.height && first + r < strip.n_rows; ++r) {
        const float scale = Pages::row_scale(strip, first + r);
        float* out = scores + strip.query_of(first + r) * ld + at * kPageKeys;
        for (int key = 0; key < n_pages * kPageKeys; ++key) {
          const bool seen = bits[r][key / kPageKeys] >> key % kPageKeys & 1;
          out[key] = seen ? strip.s[r * kTileKeys + key] * scale : kMinusInfinity;
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
    switch (args.type) {
      case KvType::kF32: score_strip<FloatPages>(strip, scores, ld); break;
      case KvType::kI16: score_strip<CodePages<I16Codes>>(strip, scores, ld); break;
      case KvType::kQ8_0: score_strip<CodePages<Q8Codes>>(strip, scores, ld); break;
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
