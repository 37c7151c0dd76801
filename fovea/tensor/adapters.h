// What an Exec reads instead of some of a model's weights: a model that many share stays as it is, and no family knows.
//
//   Adapters adapters;
//   FOVEA_RETURN_IF_ERROR(adapters.add(w_q, Lora{.a = a, .b = b, .scale = 2}));
//   Exec exec{.adapters = &adapters};
//
// A named weight w [rows, cols] stands for
//   w' = mask * w, then its Rows in the order given, then + sum of scale b a over its Loras.
// All products and look-ups of w obey; one with an adapter is made in more than one step, the others keep their bits.
// On the tape the tensors given here get gradients, and the weight may be frozen and quantised.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/weight.h"

namespace fovea::tensor {

// Hu et al., arXiv:2106.09685. A product costs rank * (rows + cols) more for each token.
struct Lora {
  Tensor a;  // [rank, cols]; rank 0 changes nothing
  Tensor b;  // [rows, rank]
  float scale = 1;
};

// A factor for every element. The masked weight is made anew, in float32, for every product.
struct Mask {
  Tensor values;        // [rows, cols]
  bool scores = false;  // the factor is 1 where values > 0, else 0, with the gradient of the values themselves
};

// Rows from `begin` on, added to the weight's or in their place (the bias stays).
struct Rows {
  Tensor values;  // [n, cols]
  int64_t begin = 0;
  bool replace = false;
};

struct Adapter {
  Mask mask;  // values may be !defined()
  std::vector<Rows> rows;
  std::vector<Lora> loras;
};

class Adapters {
 public:
  // kUsage, naming the weight and the shapes, where they do not fit; a vector (a norm, a bias) has no adapter.
  Status add(const Weight& w, Lora lora);
  Status add(const Weight& w, Mask mask);  // one at most
  Status add(const Weight& w, Rows rows);
  // A weight is known by its bytes: a copy of the handle, or an embedding that the logits use too, is the same one.
  const Adapter* find(const Weight& w) const;

 private:
  std::unordered_map<const void*, Adapter> of_;
};

// The adapter that the current Exec has for w, or null.
inline const Adapter* adapter_of(const Weight& w) {
  const Exec* exec = Exec::current();
  return exec && exec->adapters ? exec->adapters->find(w) : nullptr;
}

// For ops: the factors of a mask, or of some of its rows.
Tensor mask_factors(const Mask& mask, const Tensor& values);

}  // namespace fovea::tensor
