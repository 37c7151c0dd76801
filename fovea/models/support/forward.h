// The loop over the chain of a family: it stands here once, whatever a pass begins with, leaves out or keeps.
#pragma once

#include <climits>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "fovea/attention/attend.h"
#include "fovea/models/family.h"
#include "fovea/tensor/exec.h"

namespace fovea::models {

// Rows first, first + 1, ... of x into block 0 in place of those of the batch's tokens: soft prompts, images.
struct GivenRows {
  int64_t first;
  tensor::Tensor x;  // [n, d_model]
};

// What stands for weights in the rows of a sequence (tensor/adapters.h); null: nothing.
struct SequenceAdapters {
  attention::SequenceId sequence;
  const tensor::Adapters* adapters;
};

// What of the chain runs, by default all of it.
struct Pass {
  tensor::Tensor x = {};                  // what goes into `first_block`; undefined: what embed() gives
  std::span<const GivenRows> given = {};  // rising, none twice; they replace rows of embed()
  int first_block = 0, end_block = INT_MAX;
  // Before every block but the first: the rows of x that go on, rising; logits can be had of these only.
  std::function<std::vector<int32_t>(int block, const tensor::Tensor& x)> keep_rows = {};
  // On the tape (and without a cache): blocks keep their input alone, and run again in backward. Not where hooks are
  // attached: they see each value once.
  bool recompute = false;
  bool to_hidden = false;  // ends with final_norm() of all rows in place of the logits
  // In place of the Exec's: one entry for every sequence of the batch. Not with `recompute`.
  std::span<const SequenceAdapters> adapters = {};
  attention::KeyCount* keys = nullptr;  // counts up
};

// -> logits or hidden rows, or with an `end_block` the x that would go into it. `context` says what attention works on
// and with; its hooks are `hook`. On the tape the family and what the context names must live until backward, but for
// the batch.
tensor::Tensor forward(const Family& family, const attention::Attend::Context& context, attention::Hooks& hook,
                       const Pass& pass = {});

}  // namespace fovea::models
