#include "fovea/kernels/seen_keys.h"

#include "fovea/kernels/isa.h"

namespace fovea::kernels {
namespace FOVEA_ISA_NS {
namespace {

// What fits a position: 64 bits would halve the lanes.
int32_t clamped(int64_t position) {
  return static_cast<int32_t>(position < INT32_MIN ? INT32_MIN : position >= kNoPosition ? kNoPosition - 1 : position);
}

}  // namespace

uint64_t count_seen(const KeyRule& rule, const KeyBlock& page, const int32_t* q_pos, const uint32_t* bits, int64_t n) {
  if (n == 0) return 0;
  const int32_t* at = page.positions;
  int32_t least = at[0], most = at[0];
  for (int slot = 1; slot < kPageKeys; ++slot) {
    least = at[slot] < least ? at[slot] : least;
    most = at[slot] > most ? at[slot] : most;
  }
  // Most pages are seen whole by all rows; kNoPosition is beyond every row.
  const bool whole = most <= clamped(int64_t{q_pos[0]} + rule.ahead) &&
                     (most < rule.n_sink || int64_t{least} > int64_t{q_pos[n - 1]} - rule.window);
  if (whole && !bits) return static_cast<uint64_t>(n) * kPageKeys;
  uint64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (whole) {
      count += static_cast<uint64_t>(__builtin_popcount(bits[i]));
      continue;
    }
    const int32_t last = clamped(int64_t{q_pos[i]} + rule.ahead);
    const int32_t hidden = clamped(int64_t{q_pos[i]} - rule.window);  // the last one that only a sink may be at
    const uint32_t own = bits ? bits[i] : ~uint32_t{0};
    uint32_t seen = 0;
    for (int slot = 0; slot < kPageKeys; ++slot) {
      const int32_t key = at[slot];
      const bool sees = (key <= last) & ((key < rule.n_sink) | (key > hidden));
      seen += static_cast<uint32_t>(sees) & (own >> slot);
    }
    count += seen;
  }
  return count;
}

FOVEA_KERNEL(count_seen)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels
