// A method beside dense attention, on dense attention's own queries, keys and values: what its rows read, and how much
// of the weight that dense attention gives lies there.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "papers/support/run.h"

namespace fovea::papers {

struct ReadKey {
  int32_t position;
  float weight;  // that the method gives it
};
// One decoded token in one query head.
struct RowBeside {
  int layer, head;
  int32_t q_pos;
  std::vector<float> dense = {};              // weights of the keys 0 to q_pos
  std::vector<ReadKey> read = {};             // in order of position; empty under "dense"
  std::vector<float> z = {}, z_of_read = {};  // of the method; by its weights from the cached values. If asked for
  double mass() const;                        // of dense's weights, that of the keys which are read
};

struct BesideOptions {
  std::string attention = "dense";
  int n_decoded = 4;  // last tokens, decoded one by one; only their rows are seen
  kernels::Numerics numerics = kernels::Numerics::kFast;
  bool with_values = false;
};
// Calls see() for every layer and query head of each decoded token of the text, from the calling thread.
Status beside_dense(Run& run, const std::vector<int32_t>& tokens, const BesideOptions& options,
                    const std::function<void(const RowBeside&)>& see);

// The sum of the `n` largest of these.
double sum_of_largest(std::vector<float> values, size_t n);

}  // namespace fovea::papers
