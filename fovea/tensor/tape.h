// Reverse-mode automatic differentiation in float32. While a Tape is the current Exec's tape,
// every op that has an input with a gradient records a closure; backward() runs them in reverse.
//
// Gradients belong to values (Tensor::id), so a reshaped view shares the gradient of what it views.
// Values must not be written after an op has read them.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>

#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

class Tape {
 public:
  Tape();
  ~Tape();
  // Asks for the gradient of a leaf (a parameter, an embedding) or, called before backward(), of a
  // hook's value: watched gradients stay readable, all others are freed as soon as they were used.
  void watch(const Tensor& leaf);
  bool needs_grad(const Tensor& t) const;
  // For ops: `out` depends on `inputs`; `backward` reads grad(out) and adds into grad(input) of
  // each input that needs one. Keep what backward needs by capturing tensors by value.
  void record(const Tensor& out, std::initializer_list<Tensor> inputs, std::function<void(Tape&)> backward);
  // The gradient buffer of t (zeros at first), same shape. A caller's mistake if !needs_grad(t).
  Tensor& grad(const Tensor& t);
  // Seeds d(loss)/d(loss) = 1 (loss has one element), runs everything once and forgets it. The
  // watched gradients add up over several forward and backward passes.
  void backward(const Tensor& loss);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The tape of the current Exec, or null.
Tape* current_tape();

}  // namespace fovea::tensor
