// Attention of a query group over a list of pages of one KV head, for prefill (many queries) and decode (one).
// Pages hold keys already rotated.
//
// One canonical order per query row, whatever the number of queries, chunks or threads: keys in
// list order, tiles of whole pages, online softmax in float32. A page in which a row sees nothing
// leaves the row's state untouched to the bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fovea/kernels/isa.h"

namespace fovea::kernels {

inline constexpr int kPageKeys = 32;  // so that one uint32_t is a page's key mask
// Online softmax rescales once per tile of this many pages, counted from the start of the list, so
// the same list always gives the same bits.
inline constexpr int kTilePages = 4;
inline constexpr int32_t kNoPosition = INT32_MAX;  // an empty slot: visible to no query

// How a page stores keys or values; each side has its own type and width. The byte layout belongs to the kernels (keys
// lie transposed, a lane a key); only page.cc knows it. i16: a key in steps of its largest element / 4095, a value /
// 2047, multiplied as integers: error like that of half precision, twice the speed of float32 where there is a dot
// product. q8_0: half of that memory; 32 columns of a key, mixed so that a large one of them does not take the steps of
// the others, or a value, in steps of their largest element / 127.
enum class KvType : int { kF32, kI16, kQ8_0 };
std::string_view name_of(KvType type);       // "f32", "i16", "q8_0"
size_t key_bytes(KvType type, int k_dim);    // kPageKeys keys of one KV head; a multiple of 64
size_t value_bytes(KvType type, int v_dim);  // likewise
// k: k_dim floats for one slot. f32 keeps NaN and Inf; elsewhere all elements under a scale, or mixed, become NaN if
// one is not finite.
extern Dispatched<void(void* keys, KvType type, int k_dim, int slot, const float* k)> key_write;
extern Dispatched<void(const void* keys, KvType type, int k_dim, int slot, float* k)> key_read;
extern Dispatched<void(void* values, KvType type, int v_dim, int slot, const float* v)> value_write;
extern Dispatched<void(const void* values, KvType type, int v_dim, int slot, float* v)> value_read;
// A slot from one page to another, to the bit.
extern Dispatched<void(void* to, int to_slot, const void* from, int from_slot, KvType type, int k_dim)> key_copy;
extern Dispatched<void(void* to, int to_slot, const void* from, int from_slot, KvType type, int v_dim)> value_copy;

// A page with the stored position of each key; a slot at kNoPosition is dead.
struct KeyBlock {
  const void* k = nullptr;
  const void* v = nullptr;
  const int32_t* positions = nullptr;  // kPageKeys of them
};

// Which keys a row at position p sees: key position <= p + ahead, and (position < n_sink or position > p - window),
// and its bit in the page's mask if there is one.
struct KeyRule {
  int32_t n_sink = 0;
  int32_t window = INT32_MAX;  // INT32_MAX: no window; 0: the sinks only
  int32_t ahead = 0;           // INT32_MAX: all that comes
  bool operator==(const KeyRule&) const = default;
};

struct AttentionArgs {
  KvType k_type = KvType::kI16, v_type = KvType::kI16;  // f32 goes with f32 only
  int k_dim = 64, v_dim = 64;                           // 8..256, multiples of 8
  int group = 1;                                        // query heads that share this KV head
  float scale = 0.125f;                                 // multiplies q.k
  float softcap = 0.0f;                                 // > 0: a score s becomes softcap tanh(s / softcap)
  int64_t n_queries = 0;                                // rows of this call
  const float* q = nullptr;                             // row i of head h: q + i * ld_q + h * k_dim
  int64_t ld_q = 0;
  const int32_t* q_pos = nullptr;    // [n_queries], rising
  const KeyBlock* blocks = nullptr;  // in order of position
  int64_t n_blocks = 0;
  KeyRule rule;
  const KeyRule* head_rules = nullptr;     // [group], overrides `rule` where given
  const uint32_t* const* masks = nullptr;  // [n_blocks], each [group, n_queries] key bits or null: all; null: no masks
  float* z = nullptr;                      // row i of head h: z + i * ld_z + h * v_dim; zeros if it sees nothing
  int64_t ld_z = 0;
  float* lse = nullptr;     // [n_queries, group] log-sum-exp of the scaled scores, or null
  void* scratch = nullptr;  // attention_scratch_bytes, 64-byte aligned, one per thread
  // The call before with this scratch had the same rows, over other keys or under other rules: what it made of the
  // queries serves again.
  bool same_rows = false;
};
size_t attention_scratch_bytes(const AttentionArgs& args);
extern Dispatched<void(const AttentionArgs& args)> attention;

// The scaled scores (before softmax) of one query head: scores[i * ld + b * kPageKeys + j] for
// query row i and slot j of block b; -inf where the row does not see the key.
// `head` in [0, group). Uses q, blocks, rule(s) and masks of args; z and lse are ignored.
extern Dispatched<void(const AttentionArgs& args, int head, float* scores, int64_t ld)> attention_scores;

// z of one query head from weights of its own: z_i = sum weights[i * ld + b * kPageKeys + j] v, keys in list order.
// A weight of 0 leaves its value out, NaN or not. Uses n_queries, blocks, z and ld_z of args.
extern Dispatched<void(const AttentionArgs& args, int head, const float* weights, int64_t ld)> attention_values;

// What the rows of one query head give each key: sums[b * kPageKeys + j] += sum over i of exp(score - lse[i * group +
// head]), rows in rising order. lse as `attention` leaves it.
extern Dispatched<void(const AttentionArgs& args, int head, const float* lse, float* sums)> attention_columns;

struct MergeArgs {
  int n_parts = 0, v_dim = 64;
  int64_t n_rows = 0;
  const float* const* z = nullptr;    // of each part [n_rows, v_dim]; a row whose lse is -inf is not read
  const float* const* lse = nullptr;  // of each part [n_rows]
  const float* biases = nullptr;      // [n_parts], added to lse
  float* const* out = nullptr;        // of each row [v_dim]; zeros where every lse is -inf
  float* out_lse = nullptr;           // [n_rows] of all parts, or null
  float* shares = nullptr;            // [n_parts, n_rows], of each part in its row
};
// Joins partial results over disjoint key lists, in list order.
extern Dispatched<void(const MergeArgs& args)> attention_merge;

}  // namespace fovea::kernels
