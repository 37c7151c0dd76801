// Reverse-mode automatic differentiation in float32. While a Tape is the current Exec's tape,
// every op that has an input with a gradient records a closure; backward() runs them in reverse.
//
// Gradients belong to values (Tensor::id), so a reshaped view shares the gradient of what it views.
// Values must not be written after an op has read them (edit_guard.h finds out where a callback may).
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <utility>

#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

// What the tape knows a value by: closures that need no values keep this, not the tensor.
struct ValueId {
  ValueId() = default;
  ValueId(const Tensor& t) : id(t.id()), shape(t.shape()) {}  // NOLINT: implicit by design
  uint64_t id = 0;
  Shape shape;
};

class Tape {
 public:
  Tape();
  ~Tape();
  // Asks for the gradient of a leaf (a parameter, an embedding) or, called before backward(), of a
  // hook's value: watched gradients stay readable, all others are freed as soon as they were used.
  void watch(const Tensor& leaf);
  bool needs_grad(const ValueId& t) const;
  // For ops: `out` depends on `inputs`; `backward` reads grad(out) and adds into grad(input) of
  // each input that needs one. Keep what backward needs by capturing tensors by value.
  // Once for every out.
  void record(const Tensor& out, std::span<const Tensor> inputs, std::function<void(Tape&)> backward);
  void record(const Tensor& out, std::initializer_list<Tensor> inputs, std::function<void(Tape&)> backward) {
    record(out, std::span(inputs.begin(), inputs.size()), std::move(backward));
  }
  // For an op that finds out in `backward` what `out` depends on; it may record, and run backward(), itself.
  void record(const Tensor& out, std::function<void(Tape&)> backward);
  // The gradient buffer of t (zeros at first), same shape. A caller's mistake if !needs_grad(t).
  Tensor& grad(const ValueId& t);
  // The same for a caller that writes all of it: `first` says that it holds nothing yet, else it is added to.
  Tensor& grad(const ValueId& t, bool& first);
  // Seeds d(out) with `seed` of out's shape (1 where out has one element), and runs everything once. The watched
  // gradients add up over passes. The graph is forgotten unless `keep_graph`: then another backward() may follow,
  // from the same value with another seed or from another value.
  void backward(const Tensor& out, const Tensor& seed = {}, bool keep_graph = false);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The tape of the current Exec, or null.
Tape* current_tape();

}  // namespace fovea::tensor
