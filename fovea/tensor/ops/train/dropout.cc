#include "fovea/tensor/ops/train/dropout.h"

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// 24 bits of (key, i), by the finaliser of splitmix64 (Steele et al., OOPSLA 2014) over each.
uint32_t bits_of(uint64_t key, int64_t i) {
  const auto mix = [](uint64_t z) {
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  };
  return static_cast<uint32_t>(mix(mix(key) ^ static_cast<uint64_t>(i)) >> 40);
}

}  // namespace

Tensor dropout(const Tensor& x, float rate, uint64_t key) {
  FOVEA_CHECK(rate >= 0 && rate < 1, "dropout: a rate of {}, wanted [0, 1)", rate);
  if (rate == 0) return x;
  const auto least = static_cast<uint32_t>(rate * (1 << 24));
  const float factor = 1 / (1 - rate);
  const auto apply = [least, factor, key, n = x.elements()](const float* from, float* to, bool add) {
    for_elements(n, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float v = bits_of(key, i) < least ? 0.0f : from[i] * factor;
        to[i] = add ? to[i] + v : v;
      }
    });
  };
  Tensor y = Tensor::empty(x.shape());
  apply(x.data(), y.data(), false);
  if (Tape* tape = current_tape()) {
    tape->record(y, {x},
                 [x = ValueId(x), y = ValueId(y), apply](Tape& t) { apply(t.grad(y).data(), t.grad(x).data(), true); });
  }
  return y;
}

}  // namespace fovea::tensor
