// Where and how ops run on this thread: the arena that gives them memory, the numerics mode, and
// the tape if gradients are wanted. Ops find it through a scope, so that a forward pass is written
// once and reads like the paper:
//
//   Arena arena;
//   Exec exec{.arena = &arena, .numerics = Numerics::kFast};
//   ExecScope scope(exec);
//   Tensor y = matmul(rms_norm(x, w.norm, eps), w.w_q);
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fovea/kernels/matmul.h"
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

using kernels::Numerics;
class Tape;      // tape.h
class Adapters;  // adapters.h

// Recycles blocks of about the same size: after one warm step with the same shapes, no call reaches the heap.
// A tensor may outlive it, and may end on any thread: the last one frees what is left.
class Arena {
 public:
  Arena();
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  size_t bytes_in_use() const;
  size_t bytes_held() const;  // in use and waiting for reuse
  size_t peak_bytes() const;  // highest bytes_in_use so far
  uint64_t heap_allocations() const;
  void trim();  // gives free blocks back to the system

 private:
  friend class Storage;
  struct State;
  State* state_;  // shared with the storages in use
};

// Rows of a pass that belong together (of one sequence), from the end of those before to `end`; null: weights as they
// are.
struct AdapterRows {
  int64_t end = 0;
  const Adapters* adapters = nullptr;
};

struct Exec {
  Arena* arena = nullptr;
  Numerics numerics = Numerics::kFast;
  Tape* tape = nullptr;                            // not null: float32 everywhere, every op records its backward
  const Adapters* adapters = nullptr;              // what stands for some of the weights
  std::span<const AdapterRows> adapter_rows = {};  // in its place, where rows of x differ in it: all of them
  // Results that go into products bring their integer form, for weights of this one; kFloats: none.
  kernels::WeightForm form = kernels::WeightForm::kInt8;
  static Exec* current();  // this thread's innermost scope, or null
};

class ExecScope {
 public:
  explicit ExecScope(Exec& exec);
  ~ExecScope();
  ExecScope(const ExecScope&) = delete;
  ExecScope& operator=(const ExecScope&) = delete;

 private:
  Exec* previous_;
};

}  // namespace fovea::tensor
