// Who wants to see what weights are multiplied with, for the ops of this thread while it lives:
//
//   const ProductWatch watch([&](const Weight& w, const Tensor& x) { ... });
//   session->prefill(...);
#pragma once

#include <functional>

#include "fovea/tensor/weight.h"

namespace fovea::tensor {

class ProductWatch {
 public:
  // Called before each product with a weight: x is [n_tokens, w.cols()].
  using See = std::function<void(const Weight& w, const Tensor& x)>;
  explicit ProductWatch(See see);
  ~ProductWatch();
  ProductWatch(const ProductWatch&) = delete;
  ProductWatch& operator=(const ProductWatch&) = delete;
  static const ProductWatch* current();  // this thread's innermost, or null

  void operator()(const Weight& w, const Tensor& x) const { see_(w, x); }

 private:
  See see_;
  const ProductWatch* previous_;
};

}  // namespace fovea::tensor
