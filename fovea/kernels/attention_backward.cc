#include "fovea/kernels/attention_backward.h"

#include "fovea/base/check.h"
#include "fovea/kernels/sgemm_tile.h"

namespace fovea::kernels {

void check_attention_backward(const AttentionBackwardArgs& args);  // compiled once: formatting is made of templates

// The sizes hold for every instruction set: rows of a register tile divide kBlockRows, its columns kBlockKeys.
inline constexpr int kBlockKeys = kTilePages * kPageKeys, kBlockRows = 96;
inline constexpr int64_t round_up(int64_t n) { return (n + 31) / 32 * 32; }

#if FOVEA_ISA_LEVEL == 0
void check_attention_backward(const AttentionBackwardArgs& a) {
  FOVEA_CHECK(a.k_dim > 0 && a.v_dim > 0 && a.group > 0 && a.n_queries >= 0 && a.n_keys >= 0 && a.scratch,
              "attention_backward: widths {} and {}, a group of {}, {} queries on {} keys, and scratch must be given",
              a.k_dim, a.v_dim, a.group, a.n_queries, a.n_keys);
}

size_t attention_backward_scratch_bytes(int k_dim, int v_dim) {
  const int64_t k = round_up(k_dim), v = round_up(v_dim);
  const int64_t of_keys = kBlockKeys * (3 * k + 2 * v);        // k in panels and rows, dk; v in panels, dv
  const int64_t of_rows = kBlockRows * (3 * k + 2 * v);        // q in panels and rows, dq; dz in panels and rows
  const int64_t of_both = 3 * (kBlockRows * kBlockKeys + 64);  // P, dS and dS in panels
  return static_cast<size_t>(of_keys + of_rows + of_both + 4 * kBlockRows + 16 * 16) * sizeof(float);
}
#endif

namespace FOVEA_ISA_NS {
namespace {

static_assert(kBlockRows % kRows == 0 && kBlockKeys % kCols == 0 && 32 % kCols == 0);
constexpr float kMinusInfinity = -__builtin_inff();

// c [m, n] = a b, or added to; a in panels `a_next` apart of rows `ld_a` apart, b likewise. b and c have whole panels
// of columns, a's rows past m may hold anything.
void block_product(const float* a, int64_t a_next, int64_t ld_a, const float* b, int64_t b_next, int64_t ld_b, int m,
                   int n, int64_t k, float* c, int64_t ld_c, bool add) {
  for (int col = 0; col < n; col += kCols) {
    for (int row = 0; row < m; row += kRows) {
      const float *from_a = a + row / kRows * a_next, *from_b = b + col / kCols * b_next;
      float* to = c + row * ld_c + col;
      if (m - row >= kRows) {
        tile_product(from_a, ld_a, from_b, ld_b, k, to, ld_c, add);
      } else {
        edge_product(from_a, ld_a, from_b, ld_b, k, to, ld_c, add, m - row, kCols);
      }
    }
  }
}

// Rows of `width` floats -> out [rows][round_up(width)], zeros past the end and past n.
void pad_rows(const float* x, int64_t ld, int n, int width, int rows, float* out) {
  const int64_t padded = round_up(width);
  for (int i = 0; i < rows; ++i) {
    for (int c = 0; c < padded; ++c) out[i * padded + c] = i < n && c < width ? x[i * ld + c] : 0.0f;
  }
}

struct Backward {
  const AttentionBackwardArgs& g;
  int64_t k_width = round_up(g.k_dim), v_width = round_up(g.v_dim);
  int64_t page_count = g.pages ? g.n_pages : (g.n_keys + kPageKeys - 1) / kPageKeys;
  float *k_panels, *k_rows, *dk, *v_panels, *dv;        // of the block of keys
  float *q_panels, *q_rows, *dq, *dz_panels, *dz_rows;  // of the block of rows
  float *p, *ds, *ds_panels, *lse, *delta;
  int32_t key_pos[kBlockKeys];
  int64_t key_at[kTilePages];  // first key of each page of the block
  int key_count[kTilePages];   // keys of each page
  int columns = 0;             // of the pages that are there; of what is behind them nothing is read or made

  explicit Backward(const AttentionBackwardArgs& args) : g(args) {
    float* at = static_cast<float*>(g.scratch);
    const auto take = [&at](int64_t n) {
      float* taken = at;
      at += (n + 15) / 16 * 16;
      return taken;
    };
    k_panels = take(kBlockKeys * k_width), k_rows = take(kBlockKeys * k_width), dk = take(kBlockKeys * k_width);
    v_panels = take(kBlockKeys * v_width), dv = take(kBlockKeys * v_width);
    q_panels = take(kBlockRows * k_width), q_rows = take(kBlockRows * k_width), dq = take(kBlockRows * k_width);
    dz_panels = take(kBlockRows * v_width), dz_rows = take(kBlockRows * v_width);
    // A panel of P^T begins at a key and reads a whole register tile: past the last row there is room.
    p = take(kBlockRows * kBlockKeys + 32), ds = take(kBlockRows * kBlockKeys + 32);
    ds_panels = take(kBlockRows * kBlockKeys + 32);
    lse = take(kBlockRows), delta = take(kBlockRows);
  }

  // Reads up to kTilePages pages from the list.
  void open_keys(int64_t first_page) {
    columns = static_cast<int>(page_count - first_page < kTilePages ? page_count - first_page : kTilePages) * kPageKeys;
    for (int i = 0; i < kTilePages; ++i) {
      const bool there = first_page + i < page_count;
      const int64_t page = !there ? 0 : g.pages ? g.pages[first_page + i] : first_page + i;
      const int64_t left = g.n_keys - page * kPageKeys;
      key_at[i] = page * kPageKeys;
      key_count[i] = !there ? 0 : static_cast<int>(left < kPageKeys ? (left < 0 ? 0 : left) : kPageKeys);
      for (int j = 0; j < kPageKeys; ++j)
        key_pos[i * kPageKeys + j] = j < key_count[i] ? g.k_pos[key_at[i] + j] : kNoPosition;
      if (!there) continue;
      pad_rows(g.k + key_at[i] * g.ld_k, g.ld_k, key_count[i], g.k_dim, kPageKeys, k_rows + i * kPageKeys * k_width);
      // v's rows stand where dv will: they are only needed as panels.
      pad_rows(g.v + key_at[i] * g.ld_v, g.ld_v, key_count[i], g.v_dim, kPageKeys, dv + i * kPageKeys * v_width);
    }
    for (int col = 0; col < columns; col += kCols) {
      pack_panel<kCols>(k_rows + col * k_width, k_width, 1, kCols, g.k_dim, k_panels + col * g.k_dim);
      pack_panel<kCols>(dv + col * v_width, v_width, 1, kCols, g.v_dim, v_panels + col * g.v_dim);
    }
    for (int64_t i = 0; i < columns * k_width; ++i) dk[i] = 0.0f;
    for (int64_t i = 0; i < columns * v_width; ++i) dv[i] = 0.0f;
  }

  // 0: no row sees a key, 1: some do, 2: every row sees every key.
  int look(int64_t first, int n, int head) const {
    const KeyRule& rule = g.head_rules ? g.head_rules[head] : g.rule;
    int32_t q_first = INT32_MAX, q_last = INT32_MIN, k_first = INT32_MAX, k_last = INT32_MIN, live_last = INT32_MIN;
    for (int i = 0; i < n; ++i) {
      const int32_t at = g.q_pos[first + i];
      q_first = at < q_first ? at : q_first, q_last = at > q_last ? at : q_last;
    }
    for (int i = 0; i < kBlockKeys; ++i) {
      k_first = key_pos[i] < k_first ? key_pos[i] : k_first, k_last = key_pos[i] > k_last ? key_pos[i] : k_last;
      if (key_pos[i] != kNoPosition && key_pos[i] > live_last) live_last = key_pos[i];
    }
    if (int64_t{k_first} > int64_t{q_last} + rule.ahead) return 0;
    if (live_last <= int64_t{q_first} - rule.window && k_first >= rule.n_sink) return 0;
    if (g.mask || k_last == kNoPosition || int64_t{k_last} > int64_t{q_first} + rule.ahead ||
        int64_t{k_first} <= int64_t{q_last} - rule.window)
      return 1;
    return 2;
  }

  // Rows of register tiles that hold n.
  static int tiled(int n) { return (n + kRows - 1) / kRows * kRows; }

  // p -> P in place. `whole`: every row sees every key.
  void make_pattern(int64_t first, int n, int64_t first_page, int head, bool whole) const {
    const KeyRule& rule = g.head_rules ? g.head_rules[head] : g.rule;
    const F32 scale = F32::all(g.scale);
    if (g.softcap > 0) cap_scores(n);
    for (int i = 0; i < tiled(n); ++i) {
      float* row = p + i * kBlockKeys;
      uint32_t bits[kTilePages];
      for (uint32_t& b : bits) b = i < n && lse[i] > kMinusInfinity ? ~0u : 0u;
      if (!whole && bits[0]) see(g.q_pos[first + i], rule, bits);
      for (int page = 0; page < kTilePages && g.mask && i < n; ++page) {
        const int64_t at = first_page + page;
        if (at < page_count) bits[page] &= g.mask[((first + i) * g.group + head) * page_count + at];
      }
      const F32 shift = F32::all(bits[0] | bits[1] | bits[2] | bits[3] ? lse[i] : 0.0f);
      for (int c = 0; c < columns; c += kLanes) {
        const F32::Mask seen = mask_of(bits[c / kPageKeys] >> c % kPageKeys);
        select(seen, exp(mul_add(F32::load(row + c), scale, F32::zero() - shift)), F32::zero()).store(row + c);
      }
    }
  }
  // q k -> the capped score over scale; its slope goes to ds_panels, which is free until dS is made.
  void cap_scores(int n) const {
    const F32 to_cap = F32::all(g.scale / g.softcap), one = F32::all(1.0f), back = F32::all(g.softcap / g.scale);
    for (int i = 0; i < tiled(n); ++i) {
      for (int c = i * kBlockKeys; c < i * kBlockKeys + columns; c += kLanes) {
        const F32 capped = tanh(F32::load(p + c) * to_cap);
        (one - capped * capped).store(ds_panels + c);
        (capped * back).store(p + c);
      }
    }
  }
  void see(int32_t at, const KeyRule& rule, uint32_t* bits) const {
    const int64_t floor = int64_t{at} - rule.window, last = int64_t{at} + rule.ahead;
    for (int page = 0; page < kTilePages; ++page) {
      uint32_t seen = 0;
      for (int j = 0; j < kPageKeys; ++j) {
        const int32_t key = key_pos[page * kPageKeys + j];
        seen |= static_cast<uint32_t>(key <= last && key != kNoPosition && (key > floor || key < rule.n_sink)) << j;
      }
      bits[page] = seen;
    }
  }

  // ds -> P (ds - delta), 0 where P is: a key that is not seen may hold anything.
  void make_slopes(int n) const {
    for (int i = 0; i < tiled(n); ++i) {
      const F32 mean = F32::all(delta[i]);
      for (int c = i * kBlockKeys; c < i * kBlockKeys + columns; c += kLanes) {
        const F32 pattern = F32::load(p + c);
        F32 seen = pattern * (F32::load(ds + c) - mean);
        if (g.softcap > 0) seen = seen * F32::load(ds_panels + c);
        select(not_less(F32::zero(), pattern), F32::zero(), seen).store(ds + c);
      }
    }
  }

  void open_rows(int64_t first, int n, int head) const {
    const float *q = g.q + first * g.ld_q + head * g.k_dim, *dz = g.dz + first * g.ld_dz + head * g.v_dim,
                *z = g.z + first * g.ld_z + head * g.v_dim;
    pad_rows(q, g.ld_q, n, g.k_dim, tiled(n), q_rows);
    pad_rows(dz, g.ld_dz, n, g.v_dim, tiled(n), dz_rows);
    for (int row = 0; row < n; row += kRows) {
      pack_panel<kRows>(q_rows + row * k_width, k_width, 1, kRows, g.k_dim, q_panels + row * g.k_dim);
      pack_panel<kRows>(dz_rows + row * v_width, v_width, 1, kRows, g.v_dim, dz_panels + row * g.v_dim);
    }
    for (int i = 0; i < tiled(n); ++i) {
      lse[i] = kMinusInfinity, delta[i] = 0.0f;
      if (i >= n) continue;
      const int64_t at = (first + i) * g.group + head;
      F32 total = F32::zero();
      for (int c = 0; c < g.v_dim; c += kLanes) {
        const int lanes = g.v_dim - c < kLanes ? g.v_dim - c : kLanes;
        total =
            mul_add(F32::load_first(z + i * g.ld_z + c, lanes), F32::load_first(dz + i * g.ld_dz + c, lanes), total);
      }
      lse[i] = g.lse[at], delta[i] = sum(total) - (g.dlse ? g.dlse[at] : 0.0f);
    }
  }

  void block(int64_t first, int n, int64_t first_page, int head, bool whole) const {
    open_rows(first, n, head);
    block_product(q_panels, kRows * g.k_dim, kRows, k_panels, kCols * g.k_dim, kCols, tiled(n), columns, g.k_dim, p,
                  kBlockKeys, false);
    make_pattern(first, n, first_page, head, whole);
    if (g.dv) {
      block_product(p, kRows, kBlockKeys, dz_rows, kCols, v_width, columns, static_cast<int>(v_width), n, dv, v_width,
                    true);
    }
    if (!g.dq && !g.dk) return;
    block_product(dz_panels, kRows * g.v_dim, kRows, v_panels, kCols * g.v_dim, kCols, tiled(n), columns, g.v_dim, ds,
                  kBlockKeys, false);
    make_slopes(n);
    if (g.dk) {
      block_product(ds, kRows, kBlockKeys, q_rows, kCols, k_width, columns, static_cast<int>(k_width), n, dk, k_width,
                    true);
    }
    if (!g.dq) return;
    for (int row = 0; row < n; row += kRows)
      pack_panel<kRows>(ds + row * kBlockKeys, kBlockKeys, 1, kRows, columns, ds_panels + row * kBlockKeys);
    block_product(ds_panels, kRows * kBlockKeys, kRows, k_rows, kCols, k_width, n, static_cast<int>(k_width), columns,
                  dq, k_width, false);
    add_rows(dq, k_width, n, g.k_dim, g.scale, g.dq + first * g.ld_q + head * g.k_dim, g.ld_q);
  }

  static void add_rows(const float* from, int64_t ld_from, int n, int width, float scale, float* to, int64_t ld_to) {
    for (int i = 0; i < n; ++i) {
      for (int c = 0; c < width; ++c) to[i * ld_to + c] += scale * from[i * ld_from + c];
    }
  }
  void close_keys() const {
    for (int i = 0; i < kTilePages; ++i) {
      const int64_t row = int64_t{i} * kPageKeys;
      if (g.dk)
        add_rows(dk + row * k_width, k_width, key_count[i], g.k_dim, g.scale, g.dk + key_at[i] * g.ld_k, g.ld_k);
      if (g.dv) add_rows(dv + row * v_width, v_width, key_count[i], g.v_dim, 1.0f, g.dv + key_at[i] * g.ld_v, g.ld_v);
    }
  }

  void run() {
    for (int64_t page = 0; page < page_count; page += kTilePages) {
      open_keys(page);
      for (int head = 0; head < g.group; ++head) {
        for (int64_t first = 0; first < g.n_queries; first += kBlockRows) {
          const int64_t left = g.n_queries - first;
          const int n = static_cast<int>(left < kBlockRows ? left : kBlockRows);
          const int seen = look(first, n, head);
          if (seen > 0) block(first, n, page, head, seen == 2);
        }
      }
      close_keys();
    }
  }
};

void attention_backward(const AttentionBackwardArgs& args) {
  check_attention_backward(args);
  Backward(args).run();
}

}  // namespace
FOVEA_KERNEL(attention_backward)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
