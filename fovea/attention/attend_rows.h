// Rows of the pattern of single heads: for attend*.cc only.
#pragma once

#include <span>
#include <vector>

#include "fovea/attention/attend_layer.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/scratch.h"

namespace fovea::attention {

// Makes the rows of a head where a method edits them or an observer reduces them; z is theirs only if they were edited.
struct Attend::Rows {
  Attend& attend;
  Layer& layer;
  // What ops in the methods' and observers' callbacks run under, on whichever thread: the caller's, without a tape.
  const tensor::Exec exec;

  Rows(Attend& a, Layer& l) : attend(a), layer(l), exec(caller()) {}
  static tensor::Exec caller() {
    tensor::Exec exec = tensor::Exec::current() ? *tensor::Exec::current() : tensor::Exec{};
    exec.tape = nullptr;
    return exec;
  }
  void run(const RowTask& task) const;
  // Scores of n rows from `first` on (of one tile of the plan), [n, slots]: -inf where the row does not see the slot.
  void scores(const RowTask& task, int64_t first, int64_t n, float* to, std::span<const int32_t> positions,
              tensor::Scratch& scratch) const;
  void products(const RowTask& task, int64_t first, int64_t n, float* to, int64_t slots,
                tensor::Scratch& scratch) const;
  void softmax(int head, std::span<float> row) const;  // of a row's scores, beside the head's sink
  void weigh(const RowTask& task, int64_t first, int64_t n, const float* pattern, int64_t slots) const;  // z
  std::vector<kernels::KeyBlock> pages_of(const RowTask& task) const;
  std::vector<int32_t> slot_positions(const RowTask& task) const;
};

}  // namespace fovea::attention
