// One step of online softmax: a block of rows against a tile of pages. For attention.cc only.
//
//   s = q k^T   (one running sum per score, d rising)
//   m' = max(m, max s), a = 2^(m - m'), p = 2^(s - m')
//   l = a l + sum p, o = a o + p v   (one running sum per output, keys rising)
//
// q carries scale * log2(e), so the powers are of two. Every row meets the same operations in the
// same order whatever R is: R, the number of rows held in registers, only shares the loads.
#pragma once

#include "fovea/kernels/attention.h"
#include "fovea/kernels/f32.h"

namespace fovea::kernels::FOVEA_ISA_NS {

constexpr int kLanes = F32::kLanes;
constexpr int kTileKeys = kTilePages * kPageKeys;
constexpr int kPageVectors = kPageKeys / kLanes;
constexpr float kMinusInfinity = -__builtin_inff();

#if defined(FOVEA_FEW_TILES)  // a sanitizer build takes minutes for each height of a block
constexpr int kMaxRows = 4, kSums = 12;
#elif FOVEA_ISA_LEVEL == 2  // 32 registers: 24 sums, two of K or V, one of q or p
constexpr int kMaxRows = 12, kSums = 24;
#elif FOVEA_ISA_LEVEL == 1
constexpr int kMaxRows = 6, kSums = 12;
#else
constexpr int kMaxRows = 4, kSums = 12;
#endif
static_assert(kMaxRows <= kLanes);

// Vectors beside each other per step for R rows.
constexpr int vectors_for(int rows) { return rows * 8 <= kSums ? 8 : rows * 4 <= kSums ? 4 : 2; }

constexpr uint32_t kAllPages = (1u << kTilePages) - 1;

// K and V of a tile's pages: K [k_dim][kPageKeys], V [kPageKeys][ld_v].
struct TilePages {
  const float* k[kTilePages];
  const float* v[kTilePages];
  int64_t ld_v;
  int k_dim, v_dim;
};

// The running state of R rows.
struct RowBlock {
  const float* q;  // [k_dim][R]
  float* o;        // [R][ld_o]
  int64_t ld_o;
  float* m;  // [R]
  float* l;  // [R][kLanes], summed over the lanes at the end
  float* s;  // [R][kTileKeys], scratch
};

// Which keys each row of the block sees in each page.
using KeyBits = uint32_t[kTilePages];

// The pages of which some of n_rows see a key, and the rows that see one. Null bits: all.
struct Seen {
  uint32_t pages, rows;
};
FOVEA_INLINE Seen seen_of(const KeyBits* bits, int n_rows) {
  if (!bits) return {kAllPages, (1u << n_rows) - 1};
  Seen seen{0, 0};
  for (int r = 0; r < n_rows; ++r) {
    for (int p = 0; p < kTilePages; ++p) {
      if (bits[r][p] == 0) continue;
      seen.pages |= 1u << p;
      seen.rows |= 1u << r;
    }
  }
  return seen;
}

// s = cap tanh(s by / cap) / by, by: a row's factor from s to scores (null: 1).
inline void cap_scores(float* s, int n_rows, const float* by, float cap) {
  for (int r = 0; r < n_rows; ++r) {
    const float in = (by ? by[r] : 1.0f) / cap, back = cap / (by ? by[r] : 1.0f);
    const float out = back > __FLT_MAX__ ? __FLT_MAX__ : back;  // a row of tiny numbers: 0 times it stays 0
    for (int i = 0; i < kTileKeys; i += kLanes) {
      (tanh(F32::load(s + r * kTileKeys + i) * F32::all(in)) * F32::all(out)).store(s + r * kTileKeys + i);
    }
  }
}

// `kPages` pages at once, `NV` vectors of each from column `at`.
template <int R, int NV, int kPages>
FOVEA_INLINE void scores_of(const float* q, const float* const* k, int head_dim, int at, float* s) {
  const float* page[kPages];
  FOVEA_UNROLL
  for (int p = 0; p < kPages; ++p) page[p] = k[p] + at;
  F32 sums[R][kPages][NV];
  FOVEA_UNROLL
  for (int r = 0; r < R; ++r) {
    FOVEA_UNROLL
    for (int p = 0; p < kPages; ++p) {
      FOVEA_UNROLL
      for (int v = 0; v < NV; ++v) sums[r][p][v] = F32::zero();
    }
  }
  for (int d = 0; d < head_dim; ++d) {
    F32 keys[kPages][NV];
    FOVEA_UNROLL
    for (int p = 0; p < kPages; ++p) {
      FOVEA_UNROLL
      for (int v = 0; v < NV; ++v) keys[p][v] = F32::load(page[p] + d * kPageKeys + v * kLanes);
    }
    FOVEA_UNROLL
    for (int r = 0; r < R; ++r) {
      const F32 a = F32::all(q[d * R + r]);
      FOVEA_UNROLL
      for (int p = 0; p < kPages; ++p) {
        FOVEA_UNROLL
        for (int v = 0; v < NV; ++v) sums[r][p][v] = mul_add(a, keys[p][v], sums[r][p][v]);
      }
    }
  }
  FOVEA_UNROLL
  for (int r = 0; r < R; ++r) {
    FOVEA_UNROLL
    for (int p = 0; p < kPages; ++p) {
      FOVEA_UNROLL
      for (int v = 0; v < NV; ++v) sums[r][p][v].store(s + r * kTileKeys + p * kPageKeys + at + v * kLanes);
    }
  }
}

// Fills s for the pages whose bit is in `pages`; the others keep what they hold.
template <int R>
FOVEA_INLINE void tile_scores(const float* q, const float* const* k, int head_dim, uint32_t pages, float* s) {
  constexpr int kTogether = vectors_for(R);
  if constexpr (kTogether >= kTilePages * kPageVectors) {
    if (pages == (1u << kTilePages) - 1) return scores_of<R, kPageVectors, kTilePages>(q, k, head_dim, 0, s);
  }
  constexpr int kStep = kTogether < kPageVectors ? kTogether : kPageVectors;
  for (int p = 0; p < kTilePages; ++p) {
    if (!(pages >> p & 1)) continue;
    for (int at = 0; at < kPageKeys; at += kStep * kLanes) {
      scores_of<R, kStep, 1>(q, k + p, head_dim, at, s + p * kPageKeys);
    }
  }
}

// The largest of a row's scores in these pages. Those that it does not see become -inf.
FOVEA_INLINE float top_score(float* s, const uint32_t* seen, uint32_t pages) {
  F32 best = F32::all(kMinusInfinity);
  FOVEA_UNROLL
  for (int p = 0; p < kTilePages; ++p) {
    if (!(pages >> p & 1)) continue;
    FOVEA_UNROLL
    for (int v = p * kPageVectors; v < (p + 1) * kPageVectors; ++v) {
      F32 x = F32::load(s + v * kLanes);
      if (seen) {
        x = select(mask_of(seen[p] >> (v % kPageVectors * kLanes)), x, F32::all(kMinusInfinity));
        x.store(s + v * kLanes);
      }
      best = max(x, best);
    }
  }
  return max_lane(best);
}

// The new m, what to take from the scores for p, and what the state so far is multiplied with. [kLanes], the last two.
template <int R>
FOVEA_INLINE void raise_max(const float* top, float* m, float* shift, float* alpha) {
  const F32 old_m = F32::load_first(m, R);
  const F32 new_m = max(F32::load(top), old_m);
  // All scores so far -inf: any finite shift gives p = 0, and not NaN.
  const F32 safe = max(new_m, F32::all(-__FLT_MAX__));
  new_m.store_first(m, R);
  safe.store(shift);
  exp2_nonpositive(old_m - safe).store(alpha);
}

// s -> p in these pages, and the new m and l. Rows without their bit in `active` keep their state. alpha: [kLanes].
template <int R>
FOVEA_INLINE void tile_softmax(const RowBlock& b, const KeyBits* bits, uint32_t pages, uint32_t active, float* alpha) {
  float top[kLanes] = {}, shift[kLanes];
  FOVEA_UNROLL
  for (int r = 0; r < R; ++r) top[r] = top_score(b.s + r * kTileKeys, bits ? bits[r] : nullptr, pages);
  raise_max<R>(top, b.m, shift, alpha);
  FOVEA_UNROLL
  for (int r = 0; r < R; ++r) {
    const F32 by = F32::all(shift[r]);
    float* at = b.s + r * kTileKeys;
    F32 total = F32::zero();
    FOVEA_UNROLL
    for (int page = 0; page < kTilePages; ++page) {
      if (!(pages >> page & 1)) continue;
      FOVEA_UNROLL
      for (int v = page * kPageVectors; v < (page + 1) * kPageVectors; ++v) {
        const F32 p = exp2_nonpositive(F32::load(at + v * kLanes) - by);
        p.store(at + v * kLanes);
        total = total + p;
      }
    }
    if (active >> r & 1) {
      float* l = b.l + r * kLanes;
      mul_add(F32::load(l), F32::all(alpha[r]), total).store(l);
    }
  }
}

// o = alpha o + p v for NV vectors of columns.
template <int R, int NV>
FOVEA_INLINE void values_of(const RowBlock& b, const TilePages& tile, uint32_t pages, uint32_t active,
                            const float* alpha, int at) {
  F32 sums[R][NV];
  FOVEA_UNROLL
  for (int r = 0; r < R; ++r) {
    const F32 a = F32::all(alpha[r]);
    FOVEA_UNROLL
    for (int v = 0; v < NV; ++v) sums[r][v] = F32::load(b.o + r * b.ld_o + at + v * kLanes) * a;
  }
  for (int page = 0; page < kTilePages; ++page) {
    if (!(pages >> page & 1)) continue;
    const float* values = tile.v[page] + at;
    const float* p = b.s + page * kPageKeys;
    for (int key = 0; key < kPageKeys; ++key) {
      F32 x[NV];
      FOVEA_UNROLL
      for (int v = 0; v < NV; ++v) x[v] = F32::load(values + v * kLanes);
      FOVEA_UNROLL
      for (int r = 0; r < R; ++r) {
        const F32 a = F32::all(p[r * kTileKeys + key]);
        FOVEA_UNROLL
        for (int v = 0; v < NV; ++v) sums[r][v] = mul_add(a, x[v], sums[r][v]);
      }
      values += tile.ld_v;
    }
  }
  FOVEA_UNROLL
  for (int r = 0; r < R; ++r) {
    if (!(active >> r & 1)) continue;
    FOVEA_UNROLL
    for (int v = 0; v < NV; ++v) sums[r][v].store(b.o + r * b.ld_o + at + v * kLanes);
  }
}

template <int R>
FOVEA_INLINE void tile_values(const RowBlock& b, const TilePages& tile, uint32_t pages, uint32_t active,
                              const float* alpha) {
  constexpr int kTogether = vectors_for(R);
  const int width = (tile.v_dim + kLanes - 1) / kLanes * kLanes;
  int at = 0;
  if constexpr (kTogether >= 8) {
    for (; at + 8 * kLanes <= width; at += 8 * kLanes) values_of<R, 8>(b, tile, pages, active, alpha, at);
  }
  if constexpr (kTogether >= 4) {
    for (; at + 4 * kLanes <= width; at += 4 * kLanes) values_of<R, 4>(b, tile, pages, active, alpha, at);
  }
  for (; at + 2 * kLanes <= width; at += 2 * kLanes) values_of<R, 2>(b, tile, pages, active, alpha, at);
  if (at < width) values_of<R, 1>(b, tile, pages, active, alpha, at);
}

// The same sums, but a key that a row does not see is never multiplied: 0 * Inf would be NaN.
inline void tile_values_apart(const RowBlock& b, const TilePages& tile, const KeyBits* bits, int n_rows,
                              uint32_t active, const float* alpha) {
  for (int r = 0; r < n_rows; ++r) {
    if (!(active >> r & 1)) continue;
    for (int at = 0; at < tile.v_dim; at += kLanes) {
      float* o = b.o + r * b.ld_o + at;
      F32 total = F32::load(o) * F32::all(alpha[r]);
      for (int key = 0; key < kTileKeys; ++key) {
        const int page = key / kPageKeys, slot = key % kPageKeys;
        if (!(bits[r][page] >> slot & 1)) continue;
        total = mul_add(F32::all(b.s[r * kTileKeys + key]), F32::load(tile.v[page] + slot * tile.ld_v + at), total);
      }
      total.store(o);
    }
  }
}

inline bool all_finite(const float* x, int64_t n) {  // n a multiple of kLanes
  F32 zeros = F32::zero();
  for (int64_t i = 0; i < n; i += kLanes) zeros = mul_add(F32::load(x + i), F32::zero(), zeros);
  return sum(zeros) == 0.0f;
}

// One step. `bits` is null if every row sees every key of every page. cap: of scores in units of s; 0: none.
template <int R>
void tile_step(const RowBlock& b, const TilePages& tile, const KeyBits* bits, float cap) {
  const auto [pages, active] = seen_of(bits, R);
  bool finite = true;
  for (int p = 0; p < kTilePages && bits; ++p)
    finite = finite && (!(pages >> p & 1) || all_finite(tile.v[p], kPageKeys * tile.ld_v));
  tile_scores<R>(b.q, tile.k, tile.k_dim, pages, b.s);
  if (cap > 0) cap_scores(b.s, R, nullptr, cap);
  float alpha[kLanes];
  tile_softmax<R>(b, bits, pages, active, alpha);
  if (finite) {
    tile_values<R>(b, tile, pages, active, alpha);
  } else {
    tile_values_apart(b, tile, bits, R, active, alpha);
  }
}

// The least R with a kernel that holds n rows, and a call with it as a constant.
inline int rows_for(int n) { return n <= 8 || kMaxRows < 8 ? n : kMaxRows; }
template <typename F>
FOVEA_INLINE void with_rows(int rows, const F& f) {
  switch (rows) {
    case 1: return f.template operator()<1>();
    case 2: return f.template operator()<2>();
    case 3: return f.template operator()<3>();
    case 4: return f.template operator()<4>();
#if FOVEA_ISA_LEVEL > 0 && !defined(FOVEA_FEW_TILES)
    case 5: return f.template operator()<5>();
    case 6: return f.template operator()<6>();
#endif
#if FOVEA_ISA_LEVEL > 1 && !defined(FOVEA_FEW_TILES)
    case 7: return f.template operator()<7>();
    case 8: return f.template operator()<8>();
    case 12: return f.template operator()<12>();
#endif
  }
}

}  // namespace fovea::kernels::FOVEA_ISA_NS
