// How many of the keys of pages rows see: what is counted where lists of pages are chosen.
#pragma once

#include <cstdint>

#include "fovea/kernels/attention.h"
#include "fovea/kernels/isa.h"

namespace fovea::kernels {

// The keys of a page that the rows at q_pos[n], rising, see by a rule and, where bits [n] are given, by their masks;
// the sum over the rows.
extern Dispatched<uint64_t(const KeyRule& rule, const KeyBlock& page, const int32_t* q_pos, const uint32_t* bits,
                           int64_t n)>
    count_seen;

}  // namespace fovea::kernels
