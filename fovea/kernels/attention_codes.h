// One step of online softmax over pages of codes (i16, q8_0), with integer dot products. For attention.cc only.
//
//   s = qs sum (qc . kc) ks      q, k, v: codes qc, kc, vc and a scale for each row, key (q8_0: 32 columns) and value
//   m' = max(m, max s), a = 2^(m - m'), p = 2^(s - m')
//   l = a l + sum p
//   w = p vs, wc = round(w c), c = kWeightCodes / max w of the row in this tile
//   o = a o + (wc . vc) / c
//
// Sums of codes are exact, so only l and the steps from tile to tile have an order. Weights are rounded against the
// largest of their own tile: against the largest so far, a sink would flatten all that follows.
#pragma once

#include "fovea/kernels/attention_tile.h"
#include "fovea/kernels/codes.h"
#include "fovea/kernels/page_layout.h"
#include "fovea/kernels/pairs.h"

namespace fovea::kernels::FOVEA_ISA_NS {

// Sums of products run over so many columns or keys, then become floats: they stay below 2^31.
constexpr int kSumPages = 4;
constexpr int most_codes(int sum_of, int other) {  // the largest codes that int16 and such a sum can hold
  return INT32_MAX / sum_of / other < INT16_MAX ? INT32_MAX / sum_of / other : INT16_MAX;
}
template <typename Codes>
constexpr int kSumPairs = Codes::kGroupColumns < 64 ? Codes::kGroupColumns / 2 : 32;
template <typename Codes>
constexpr int kQueryCodes = most_codes(2 * kSumPairs<Codes>, Codes::kKeys);
template <typename Codes>
constexpr int kWeightCodes = most_codes(kSumPages* kPageKeys, Codes::kValues);
static_assert(kQueryCodes<I16Codes> >= I16Codes::kKeys && kWeightCodes<I16Codes> >= I16Codes::kValues);

// A query (null: zeros) as codes up to `most`; mixed: as the keys are that it meets -> its scale, above 0, or NaN.
inline float round_query(const float* q, int k_dim, bool mixed, int most, int32_t* codes) {
  float other[256];
  if (q && mixed) {
    mix_columns(q, k_dim, /*divide=*/false, other);
    q = other;
  }
  const float step = q ? largest_of(q, k_dim) / static_cast<float>(most) : 0.0f;
  round_codes(q, k_dim, step >= __FLT_MIN__ ? 1.0f / step : 0.0f, most, codes);
  return step < __FLT_MIN__ ? 1.0f : step;
}

// 2^x for x <= 0 or a rounding above: relative error below 3e-6, a twentieth of a code. 0 far below; NaN stays NaN.
FOVEA_INLINE F32 exp2_code(F32 x) {
#if FOVEA_ISA_LEVEL == 2
  // 2^(x - floor(x)) by a polynomial fitted on [0, 1); scalef takes the floor of its exponent itself.
  const F32 f = {_mm512_reduce_ps(x.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)};
  F32 p = F32::all(0.013534167781472206f);
  p = mul_add(p, f, F32::all(0.05201146379113197f));
  p = mul_add(p, f, F32::all(0.2414427548646927f));
  p = mul_add(p, f, F32::all(0.6930038332939148f));
  p = mul_add(p, f, F32::all(1.0000026226043701f));
  return times_power(p, x);
#else
  return exp2_nonpositive(x);
#endif
}

// The keys of a tile's pages.
template <typename Codes>
struct KeyTile {
  using Code = typename Codes::Code;
  const Code* k[kTilePages];     // [k_dim / 2][kPageKeys][2]
  const Code* next[kTilePages];  // the pages of the tile to come, for prefetching
  float scales[256 / Codes::kGroupColumns][kTileKeys];
  int k_dim;
};

// The values. Scales of slots with a value that is not finite are 0 here, and their bit is in `bad`.
template <typename Codes>
struct ValueTile {
  using Code = typename Codes::Code;
  const Code* v[kTilePages];  // [kPageKeys / 2][v_dim][2]
  const Code* next[kTilePages];
  float scales[kTileKeys];
  uint32_t bad[kTilePages];
  bool any_bad;
  int v_dim;
};

struct CodeRows {
  const int16_t* q;       // [k_dim / 2][R][2]
  const float* q_scales;  // [R], with scale * log2(e); above 0, or NaN
  float* o;               // [R][ld_o]
  int64_t ld_o;
  float* m;    // [R]
  float* l;    // [R][kLanes], summed over the lanes at the end
  float* s;    // [R][kTileKeys], scratch
  int16_t* w;  // [R][kTileKeys], scratch
};

// Pages are read straight from the cache, and lie anywhere: each step asks for the lines that the same step of the
// next tile needs, or every page would start with misses.
template <int N, typename Code>
FOVEA_INLINE void prefetch(const Code* from) {
  FOVEA_UNROLL
  for (int i = 0; i < N; i += 64 / static_cast<int>(sizeof(Code))) __builtin_prefetch(from + i, 0, 2);
}

// s = sum (qc . kc) ks: `kPages` pages at once, `NV` vectors of each from key `at`.
template <int R, int NV, int kPages, typename Codes>
FOVEA_INLINE void code_scores_of(const int16_t* q, const KeyTile<Codes>& tile, int first_page, int at, float* s) {
  constexpr int kStep = kSumPairs<Codes>;
  const typename Codes::Code* page[kPages];
  const typename Codes::Code* ahead[kPages];
  FOVEA_UNROLL
  for (int p = 0; p < kPages; ++p) {
    page[p] = tile.k[first_page + p] + 2 * at;
    ahead[p] = tile.next[first_page + p] + 2 * at;
  }
  for (int begin = 0; begin < tile.k_dim / 2; begin += kStep) {
    Sums sums[R][kPages][NV];
    FOVEA_UNROLL
    for (int r = 0; r < R; ++r) {
      FOVEA_UNROLL
      for (int p = 0; p < kPages; ++p) {
        FOVEA_UNROLL
        for (int v = 0; v < NV; ++v) sums[r][p][v] = Sums::zero();
      }
    }
    const int end = begin + kStep < tile.k_dim / 2 ? begin + kStep : tile.k_dim / 2;
    const float* scales = tile.scales[2 * begin / Codes::kGroupColumns];
    for (int d = begin; d < end; ++d) {
      Pairs keys[kPages][NV];
      FOVEA_UNROLL
      for (int p = 0; p < kPages; ++p) {
        prefetch<2 * NV * kLanes>(ahead[p] + d * 2 * kPageKeys);
        FOVEA_UNROLL
        for (int v = 0; v < NV; ++v) keys[p][v] = Pairs::load(page[p] + 2 * (d * kPageKeys + v * kLanes));
      }
      FOVEA_UNROLL
      for (int r = 0; r < R; ++r) {
        const Pairs a = Pairs::all(q + 2 * (d * R + r));
        FOVEA_UNROLL
        for (int p = 0; p < kPages; ++p) {
          FOVEA_UNROLL
          for (int v = 0; v < NV; ++v) sums[r][p][v] = dot_add(keys[p][v], a, sums[r][p][v]);
        }
      }
    }
    FOVEA_UNROLL
    for (int p = 0; p < kPages; ++p) {
      FOVEA_UNROLL
      for (int v = 0; v < NV; ++v) {
        const int key = (first_page + p) * kPageKeys + at + v * kLanes;
        const F32 scale = F32::load(scales + key);
        FOVEA_UNROLL
        for (int r = 0; r < R; ++r) {
          float* to = s + r * kTileKeys + key;
          const F32 before = begin == 0 ? F32::zero() : F32::load(to);
          mul_add(sums[r][p][v].floats(), scale, before).store(to);
        }
      }
    }
  }
}

// Fills s for the pages whose bit is in `pages`; the others keep what they hold.
template <int R, typename Codes>
FOVEA_INLINE void code_scores(const int16_t* q, const KeyTile<Codes>& tile, uint32_t pages, float* s) {
  constexpr int kTogether = vectors_for(R);
  if constexpr (kTogether >= kTilePages * kPageVectors) {
    if (pages == (1u << kTilePages) - 1) return code_scores_of<R, kPageVectors, kTilePages>(q, tile, 0, 0, s);
  }
  constexpr int kStep = kTogether < kPageVectors ? kTogether : kPageVectors;
  for (int p = 0; p < kTilePages; ++p) {
    if (!(pages >> p & 1)) continue;
    for (int at = 0; at < kPageKeys; at += kStep * kLanes) code_scores_of<R, kStep, 1>(q, tile, p, at, s);
  }
}

// s -> w in these pages, and the new m and l. Rows without their bit in `active` keep their state. alpha: a; back: 1 /
// c, [kLanes].
template <int R, typename Codes>
FOVEA_INLINE void code_softmax(const CodeRows& b, const ValueTile<Codes>& tile, const KeyBits* bits, uint32_t pages,
                               uint32_t active, float* alpha, float* back) {
  float top[kLanes] = {}, shift[kLanes];
  for (int r = 0; r < R; ++r) top[r] = top_score(b.s + r * kTileKeys, bits ? bits[r] : nullptr, pages) * b.q_scales[r];
  raise_max<R>(top, b.m, shift, alpha);
  float up[kLanes];
  for (int r = 0; r < R; ++r) {
    const F32 by = F32::all(-shift[r]), scale = F32::all(b.q_scales[r]);
    float* at = b.s + r * kTileKeys;
    F32 total = F32::zero(), most = F32::zero();
    FOVEA_UNROLL
    for (int page = 0; page < kTilePages; ++page) {
      if (!(pages >> page & 1)) continue;
      FOVEA_UNROLL
      for (int v = page * kPageVectors; v < (page + 1) * kPageVectors; ++v) {
        const F32 p = exp2_code(mul_add(F32::load(at + v * kLanes), scale, by));
        const F32 w = p * F32::load(tile.scales + v * kLanes);
        total = total + p;
        most = max(w, most);
        w.store(at + v * kLanes);
      }
    }
    if (active >> r & 1) {
      float* l = b.l + r * kLanes;
      mul_add(F32::load(l), F32::all(alpha[r]), total).store(l);
    }
    up[r] = max_lane(most);
  }
  // After the rows, so that none of them waits for the largest weight of the one before.
  for (int r = 0; r < R; ++r) {
    back[r] = up[r] * (1.0f / kWeightCodes<Codes>);
    // So small a weight that its reciprocal is infinite weighs nothing.
    up[r] = back[r] > __FLT_MIN__ ? 1.0f / back[r] : 0.0f;
  }
  for (int r = 0; r < R; ++r) {
    const F32 by = F32::all(up[r]);
    FOVEA_UNROLL
    for (int page = 0; page < kTilePages; ++page) {
      if (!(pages >> page & 1)) continue;
      FOVEA_UNROLL
      for (int v = page * kPageVectors; v < (page + 1) * kPageVectors; v += 2) {
        const int at = r * kTileKeys + v * kLanes;
        store_codes(F32::load(b.s + at) * by, F32::load(b.s + at + kLanes) * by, b.w + at);
      }
    }
  }
}

// o = a o + (wc . vc) / c for NV vectors of columns.
template <int R, int NV, typename Codes>
FOVEA_INLINE void code_values_of(const CodeRows& b, const ValueTile<Codes>& tile, uint32_t pages, uint32_t active,
                                 const float* alpha, const float* back, int at) {
  const int row = 2 * tile.v_dim;
  bool scaled = false;
  for (int begin = 0; begin < kTilePages; begin += kSumPages) {
    if (!(pages >> begin & ((1u << kSumPages) - 1))) continue;
    Sums sums[R][NV];
    FOVEA_UNROLL
    for (int r = 0; r < R; ++r) {
      FOVEA_UNROLL
      for (int v = 0; v < NV; ++v) sums[r][v] = Sums::zero();
    }
    for (int page = begin; page < begin + kSumPages; ++page) {
      if (!(pages >> page & 1)) continue;
      const typename Codes::Code* values = tile.v[page] + 2 * at;
      const typename Codes::Code* ahead = tile.next[page] + 2 * at;
      const int16_t* w = b.w + page * kPageKeys;
      for (int pair = 0; pair < kPageKeys / 2; ++pair) {
        prefetch<2 * NV * kLanes>(ahead + pair * row);
        Pairs x[NV];
        FOVEA_UNROLL
        for (int v = 0; v < NV; ++v) x[v] = Pairs::load(values + 2 * v * kLanes);
        FOVEA_UNROLL
        for (int r = 0; r < R; ++r) {
          const Pairs a = Pairs::all(w + r * kTileKeys + 2 * pair);
          FOVEA_UNROLL
          for (int v = 0; v < NV; ++v) sums[r][v] = dot_add(x[v], a, sums[r][v]);
        }
        values += row;
      }
    }
    FOVEA_UNROLL
    for (int r = 0; r < R; ++r) {
      if (!(active >> r & 1)) continue;
      const F32 a = F32::all(scaled ? 1.0f : alpha[r]), by = F32::all(back[r]);
      FOVEA_UNROLL
      for (int v = 0; v < NV; ++v) {
        float* o = b.o + r * b.ld_o + at + v * kLanes;
        mul_add(sums[r][v].floats(), by, F32::load(o) * a).store(o);
      }
    }
    scaled = true;
  }
}

template <int R, typename Codes>
FOVEA_INLINE void code_values(const CodeRows& b, const ValueTile<Codes>& tile, uint32_t pages, uint32_t active,
                              const float* alpha, const float* back) {
  constexpr int kTogether = vectors_for(R);
  // Past the last column a vector reads what follows in the page (the scales at its end): columns that nobody reads.
  const int width = (tile.v_dim + kLanes - 1) / kLanes * kLanes;
  int at = 0;
  if constexpr (kTogether >= 8) {
    for (; at + 8 * kLanes <= width; at += 8 * kLanes) code_values_of<R, 8>(b, tile, pages, active, alpha, back, at);
  }
  if constexpr (kTogether >= 4) {
    for (; at + 4 * kLanes <= width; at += 4 * kLanes) code_values_of<R, 4>(b, tile, pages, active, alpha, back, at);
  }
  for (; at + 2 * kLanes <= width; at += 2 * kLanes) code_values_of<R, 2>(b, tile, pages, active, alpha, back, at);
  if (at < width) code_values_of<R, 1>(b, tile, pages, active, alpha, back, at);
}

// The two halves of a step: keys and values have types of their own. `bits` is null if every row sees every key of
// every page. cap: of scores, in the units of q_scales; 0: none.
template <int R, typename Codes>
void key_step(const CodeRows& b, const KeyTile<Codes>& tile, uint32_t pages, float cap) {
  code_scores<R>(b.q, tile, pages, b.s);
  if (cap > 0) cap_scores(b.s, R, b.q_scales, cap);
}
template <int R, typename Codes>
void value_step(const CodeRows& b, const ValueTile<Codes>& tile, const KeyBits* bits, const Seen& seen) {
  float alpha[kLanes], back[kLanes];
  code_softmax<R>(b, tile, bits, seen.pages, seen.rows, alpha, back);
  code_values<R>(b, tile, seen.pages, seen.rows, alpha, back);
  if (!tile.any_bad) return;
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < kTilePages; ++p) {
      if ((tile.bad[p] & (bits ? bits[r][p] : ~uint32_t{0})) == 0) continue;
      for (int d = 0; d < tile.v_dim; ++d) b.o[r * b.ld_o + d] = __builtin_nanf("");
    }
  }
}

}  // namespace fovea::kernels::FOVEA_ISA_NS
