// The tree search over the weights that dense attention gives, as the method makes it for one decoded row of a head,
// and the ways to choose beside it: what the method's own rows are compared with, and what the controls change.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fovea/methods/select/tree_search.h"

namespace fovea::papers::hip_attention {

struct SearchShape {
  int k = 256, block = 32;        // keys that are found, keys of a block
  int window = 256, n_sink = 16;  // keys that are not searched
};
// The keys of a row at the end of `n_keys` that are searched: whole pages between sinks and window.
struct Inner {
  int32_t begin = 0, end = 0;
  int32_t size() const { return end - begin; }
};
Inner inner_keys(const SearchShape& shape, int32_t n_keys);

struct Searched {
  std::vector<int32_t> keys;  // rising; all if no more than k are searched
  int64_t n_scored = 0;       // keys
};
// The method's search by these weights, a key's at its position.
Searched search(const SearchShape& shape, const std::vector<float>& weights, attention::Representative by);

// What of a row's weight chosen keys hold that are searched, by that of the k highest of them: 1 is the most. What is
// random is the mean of several draws.
struct Recall {
  double center = 0, first = 0, blocks = 0;  // the search; blocks with the highest key
  double random = 0, window = 0;             // random blocks, as many; the last ones
  double noise = 0, elsewhere = 0;           // the search where scores are random, or those of other blocks
  double shuffled = 0;                       // where keys changed places
  double fine = 0, fine_shuffled = 0;        // blocks of 2 keys, the paper's
  double locality = 0;  // correlation of neighbouring blocks' highest scores: without it no tree search can find more
};
// False where all keys that are searched fit, or hold no weight.
bool recall_of(const SearchShape& shape, const std::vector<float>& weights, uint64_t seed, Recall& out);

}  // namespace fovea::papers::hip_attention
