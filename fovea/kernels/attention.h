// Attention of a query group over a list of key blocks ("pages") of one KV head, for prefill
// (many queries) and decode (one). Pages hold keys already rotated.
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

// How a page stores K and V. The byte layout belongs to the kernels (K lies transposed, a lane a
// key); only page.cc knows it. i16: a key in steps of its largest element / 4095, a value / 2047, multiplied
// as integers: error like that of half precision, twice the speed of float32 where there is a dot product.
// q8_0: half of that memory; 32 columns of a key, or a value, in steps of their largest element / 127.
enum class KvType : int { kF32, kI16, kQ8_0 };
std::string_view name_of(KvType type);         // "f32", "i16", "q8_0"
size_t page_bytes(KvType type, int head_dim);  // K and V of kPageKeys keys of one KV head
// k and v: head_dim floats for one slot. f32 keeps NaN and Inf; elsewhere all elements under a scale become NaN if
// one is not finite.
extern Dispatched<void(void* page, KvType type, int head_dim, int slot, const float* k, const float* v)> page_write;
extern Dispatched<void(const void* page, KvType type, int head_dim, int slot, float* k, float* v)> page_read;
// A slot from one page to another, to the bit.
extern Dispatched<void(void* to, int to_slot, const void* from, int from_slot, KvType type, int head_dim)> page_copy;

// A page with the stored position of each key; a slot at kNoPosition is dead.
struct KeyBlock {
  const void* page = nullptr;
  const int32_t* positions = nullptr;  // kPageKeys of them
};

// Which keys a row at position p sees: key position <= p, and (position < n_sink or
// position > p - window), and its bit in `mask` if there is one.
struct KeyRule {
  int32_t n_sink = 0;
  int32_t window = INT32_MAX;  // INT32_MAX: no window
};

struct AttentionArgs {
  KvType type = KvType::kI16;
  int head_dim = 64;         // 8..256, a multiple of 8
  int group = 1;             // query heads that share this KV head
  float scale = 0.125f;      // multiplies q.k
  int64_t n_queries = 0;     // rows of this call
  const float* q = nullptr;  // row i of head h: q + i * ld_q + h * head_dim
  int64_t ld_q = 0;
  const int32_t* q_pos = nullptr;    // [n_queries], rising
  const KeyBlock* blocks = nullptr;  // in order of position
  int64_t n_blocks = 0;
  KeyRule rule;
  const KeyRule* head_rules = nullptr;  // [group], overrides `rule` where given
  const uint32_t* mask = nullptr;       // [n_queries, group, n_blocks] key bits, or null: all visible
  float* z = nullptr;                   // row i of head h: z + i * ld_z + h * head_dim; zeros if it sees nothing
  int64_t ld_z = 0;
  float* lse = nullptr;     // [n_queries, group] log-sum-exp of the scaled scores, or null
  void* scratch = nullptr;  // attention_scratch_bytes, 64-byte aligned, one per thread
};
size_t attention_scratch_bytes(const AttentionArgs& args);
extern Dispatched<void(const AttentionArgs& args)> attention;

// The scaled scores (before softmax) of one query head: scores[i * ld + b * kPageKeys + j] for
// query row i and slot j of block b; -inf where the row does not see the key.
// `head` in [0, group). Uses q, blocks, rule(s) and mask of args; z and lse are ignored.
extern Dispatched<void(const AttentionArgs& args, int head, float* scores, int64_t ld)> attention_scores;

// Joins partial results over disjoint key lists, in list order: z [n_parts][head_dim] with lse
// [n_parts] -> out [head_dim]. Used when one query's keys are split into fixed segments.
extern Dispatched<void(const float* z, const float* lse, int n_parts, int head_dim, float* out)> attention_merge;

}  // namespace fovea::kernels
