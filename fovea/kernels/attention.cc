#include "fovea/kernels/attention.h"

#include "fovea/base/check.h"
#include "fovea/kernels/attention_codes.h"
#include "fovea/kernels/attention_strip.h"
#include "fovea/kernels/attention_tile.h"
#include "fovea/kernels/page_layout.h"

namespace fovea::kernels {

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
