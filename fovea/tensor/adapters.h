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
#include <string>
#include <unordered_map>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/base/result.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/weight.h"

namespace fovea::tensor {

// Hu et al., arXiv:2106.09685. A product costs rank * (rows + cols) more for each token.
struct Lora {
  Tensor a;  // [rank, cols]; rank 0 changes nothing
  Tensor b;  // [rows, rank]
  float scale = 1;
  // An embedding that the logits use too may be changed in one of its uses only.
  enum class Use { kAll, kProducts, kLookUps } use = Use::kAll;
  bool frozen = false;          // never on a tape: products read packed forms of a and b
  Weight of_a = {}, of_b = {};  // for these products; made by add()
};

// A factor for every element, or for each of n runs of columns of one width: what a head gives to an output matrix. The
// masked weight is made anew, in float32, for every product.
struct Mask {
  Tensor values;          // [rows, cols], or [1, n]
  bool scores = false;    // the factor is 1 where values > 0, else 0, with the gradient of the values themselves
  float temperature = 0;  // > 0: with that of sigmoid(values / temperature)
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
  // Of all that is in them, for what is kept longer than they live (prefixes on disk, head profiles). Empty: not known,
  // and nothing is kept.
  const std::string& sha256() const { return sha256_; }
  void set_sha256(std::string sha256) { sha256_ = std::move(sha256); }

  // kUsage, naming the weight and the shapes, where they do not fit; a vector (a norm, a bias) has no adapter.
  Status add(const Weight& w, Lora lora);
  Status add(const Weight& w, Mask mask);  // one at most
  Status add(const Weight& w, Rows rows);
  // A weight is known by its bytes: a copy of the handle, or an embedding that the logits use too, is the same one.
  const Adapter* find(const Weight& w) const;

 private:
  std::unordered_map<const void*, Adapter> of_;
  std::string sha256_;
};

// For ops: f(begin, end, adapter) for the rows [0, n) of an op with w, in order; the adapter is null where w stays.
template <typename F>
void for_adapters(const Weight& w, int64_t n, F f) {
  const Exec* exec = Exec::current();
  if (!exec || exec->adapter_rows.empty())
    return f(int64_t{0}, n, exec && exec->adapters ? exec->adapters->find(w) : nullptr);
  FOVEA_CHECK(exec->adapter_rows.back().end == n, "adapters of {} rows for {} of {}", exec->adapter_rows.back().end, n,
              w.name);
  int64_t begin = 0;
  for (const AdapterRows& rows : exec->adapter_rows) {
    f(begin, rows.end, rows.adapters ? rows.adapters->find(w) : nullptr);
    begin = rows.end;
  }
}
bool is_adapted(const Weight& w);  // in some row
bool is_masked(const Weight& w);   // likewise

// For ops: the factors of a mask, or of some of its rows.
Tensor mask_factors(const Mask& mask, const Tensor& values);

}  // namespace fovea::tensor
