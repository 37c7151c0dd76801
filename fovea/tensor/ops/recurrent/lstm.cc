#include "fovea/tensor/ops/recurrent/lstm.h"

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

float gate_of(float x) { return 1 / (1 + std::exp(-x)); }

// fn(row, column) over all of the state.
template <typename Fn>
void each(int64_t batch, int64_t d, const Fn& fn) {
  for_rows(batch, 8 * d, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < d; ++c) fn(r, c);
    }
  });
}

}  // namespace

LstmState lstm_step(const Tensor& gates, const Tensor& c) {
  const bool fits =
      gates.shape().rank() == 2 && c.shape().rank() == 2 && gates.dim(0) == c.dim(0) && gates.dim(1) == 4 * c.dim(1);
  FOVEA_CHECK(fits, "lstm_step: gates {} for a state {}", gates.shape().to_string(), c.shape().to_string());
  const int64_t batch = c.dim(0), d = c.dim(1);
  LstmState next{Tensor::empty(c.shape()), Tensor::empty(c.shape())};
  Tensor on = Tensor::empty(gates.shape());  // the gates behind their functions
  each(batch, d, [&](int64_t r, int64_t k) {
    const float* in = gates.data() + r * 4 * d + k;
    float* out = on.data() + r * 4 * d + k;
    for (int64_t g = 0; g < 4; ++g) out[g * d] = g == 2 ? std::tanh(in[g * d]) : gate_of(in[g * d]);
    const float cell = out[d] * c.data()[r * d + k] + out[0] * out[2 * d];
    next.c.data()[r * d + k] = cell;
    next.h.data()[r * d + k] = out[3 * d] * std::tanh(cell);
  });
  Tape* tape = current_tape();
  if (!tape) return next;
  // c' comes before h', so that backward has all of dc' when it gets there.
  tape->record(next.c, {gates, c}, [=, gates = ValueId(gates), y = ValueId(next.c)](Tape& t) {
    const float* dy = t.grad(y).data();
    float* dgates = t.needs_grad(gates) ? t.grad(gates).data() : nullptr;
    float* dc = t.needs_grad(c) ? t.grad(c).data() : nullptr;
    each(batch, d, [&](int64_t r, int64_t k) {
      const float *v = on.data() + r * 4 * d + k, dcell = dy[r * d + k];
      if (dc) dc[r * d + k] += dcell * v[d];
      if (!dgates) return;
      float* to = dgates + r * 4 * d + k;
      to[0] += dcell * v[2 * d] * v[0] * (1 - v[0]);
      to[d] += dcell * c.data()[r * d + k] * v[d] * (1 - v[d]);
      to[2 * d] += dcell * v[0] * (1 - v[2 * d] * v[2 * d]);
    });
  });
  tape->record(next.h, {gates, next.c}, [=, gates = ValueId(gates), cell = next.c, y = ValueId(next.h)](Tape& t) {
    const float* dy = t.grad(y).data();
    float* dgates = t.needs_grad(gates) ? t.grad(gates).data() : nullptr;
    float* dc = t.needs_grad(cell) ? t.grad(cell).data() : nullptr;
    each(batch, d, [&](int64_t r, int64_t k) {
      const float o = on.data()[r * 4 * d + 3 * d + k], squashed = std::tanh(cell.data()[r * d + k]);
      if (dc) dc[r * d + k] += dy[r * d + k] * o * (1 - squashed * squashed);
      if (dgates) dgates[r * 4 * d + 3 * d + k] += dy[r * d + k] * squashed * o * (1 - o);
    });
  });
  return next;
}

}  // namespace fovea::tensor
