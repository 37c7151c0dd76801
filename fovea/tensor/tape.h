// Reverse-mode automatic differentiation in float32. While a Tape is the current Exec's tape,
// every op that has an input with a gradient records a closure; backward() runs them in reverse.
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
  // Asks for the gradient of a leaf (a parameter, an embedding, a hook's value).
  void watch(const Tensor& leaf);
  bool needs_grad(const Tensor& t) const;
  // For ops: `out` depends on `inputs`; `backward` reads grad(out) and adds into grad(input) of
  // each input that needs one. Keep what backward needs by capturing tensors by value.
  void record(const Tensor& out, std::initializer_list<Tensor> inputs, std::function<void(Tape&)> backward);
  // The gradient buffer of t (zeros at first), same shape. A caller's mistake if !needs_grad(t).
  Tensor& grad(const Tensor& t);
  // Seeds d(loss)/d(loss) = 1 (loss has one element) and runs everything once.
  void backward(const Tensor& loss);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fovea::tensor
