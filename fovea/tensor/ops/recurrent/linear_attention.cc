#include "fovea/tensor/ops/recurrent/linear_attention.h"

#include <algorithm>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// States are kept every so many steps and made again in between: backward needs each of them, in falling order.
constexpr int64_t kKept = 32;

struct LinearSizes {
  int64_t batch, n, heads, k_dim, v_dim;
  int64_t state() const { return k_dim * v_dim; }
  int64_t row(int64_t task, int64_t t) const { return task / heads * n + t; }
  int64_t k_at(int64_t task, int64_t t) const { return row(task, t) * heads * k_dim + task % heads * k_dim; }
  int64_t v_at(int64_t task, int64_t t) const { return row(task, t) * heads * v_dim + task % heads * v_dim; }
  // fn(task) for every head of every sample: one thread's, steps in order
  template <typename Fn>
  void each(const Fn& fn) const {
    pool().for_each(batch * heads, [&](int64_t task, int) { fn(task); });
  }
};

// S = diag(decay) S + k v^T
void advance(const LinearSizes& s, const float* k, const float* v, const float* decay, float* state) {
  for (int64_t i = 0; i < s.k_dim; ++i) {
    float* row = state + i * s.v_dim;
    const float keep = decay ? decay[i] : 1.0f, by = k[i];
    for (int64_t j = 0; j < s.v_dim; ++j) row[j] = keep * row[j] + by * v[j];
  }
}

void forward(const LinearSizes& s, const Tensor& q, const Tensor& k, const Tensor& v, const float* decay, float* y) {
  s.each([&](int64_t task) {
    std::vector<float> state(static_cast<size_t>(s.state()), 0.0f);
    for (int64_t t = 0; t < s.n; ++t) {
      const int64_t at = s.k_at(task, t);
      advance(s, k.data() + at, v.data() + s.v_at(task, t), decay ? decay + at : nullptr, state.data());
      float* out = y + s.v_at(task, t);
      std::fill_n(out, s.v_dim, 0.0f);
      for (int64_t i = 0; i < s.k_dim; ++i) {
        const float by = q.data()[at + i], *row = state.data() + i * s.v_dim;
        for (int64_t j = 0; j < s.v_dim; ++j) out[j] += by * row[j];
      }
    }
  });
}

struct Gradients {
  float *q, *k, *v, *decay;  // null where none is wanted
};

// With R[t] = q[t] dy[t]^T + diag(decay[t + 1]) R[t + 1], the gradient of S[t]: dq = S dy, dk = R v, dv = R^T k,
// ddecay[i] = sum_j R[i, j] S[t - 1][i, j].
void backward(const LinearSizes& s, const Tensor& q, const Tensor& k, const Tensor& v, const float* decay,
              const float* dy, const Gradients& to) {
  s.each([&](int64_t task) {
    const auto size = static_cast<size_t>(s.state());
    const int64_t n_blocks = (s.n + kKept - 1) / kKept;
    const auto step = [&](int64_t t, float* state) {
      const int64_t at = s.k_at(task, t);
      advance(s, k.data() + at, v.data() + s.v_at(task, t), decay ? decay + at : nullptr, state);
    };
    std::vector<float> kept(size * static_cast<size_t>(n_blocks), 0.0f);  // before each block
    for (int64_t t = 0; t < (n_blocks - 1) * kKept; ++t) {
      float* block = kept.data() + t / kKept * s.state();
      if (t % kKept == 0) std::copy_n(block, size, block + s.state());
      step(t, block + s.state());
    }
    std::vector<float> states(size * (kKept + 1)), r(size, 0.0f);
    for (int64_t block = n_blocks; block-- > 0;) {
      const int64_t first = block * kKept, last = std::min(s.n, first + kKept);
      std::copy_n(kept.data() + block * s.state(), size, states.data());
      for (int64_t t = first; t < last; ++t) {
        float* state = states.data() + (t - first + 1) * s.state();
        std::copy_n(state - s.state(), size, state);
        step(t, state);
      }
      for (int64_t t = last; t-- > first;) {
        const int64_t at = s.k_at(task, t), v_at = s.v_at(task, t);
        const float *d = dy + v_at, *before = states.data() + (t - first) * s.state(), *state = before + s.state();
        const float* value = v.data() + v_at;
        for (int64_t i = 0; i < s.k_dim; ++i) {
          float* row = r.data() + i * s.v_dim;
          const float by = q.data()[at + i], key = k.data()[at + i];
          float dq = 0, dk = 0, ddecay = 0;
          for (int64_t j = 0; j < s.v_dim; ++j) {
            row[j] += by * d[j];
            dq += state[i * s.v_dim + j] * d[j];
            dk += row[j] * value[j];
            ddecay += row[j] * before[i * s.v_dim + j];
          }
          for (int64_t j = 0; j < s.v_dim && to.v; ++j) to.v[v_at + j] += row[j] * key;
          if (to.q) to.q[at + i] += dq;
          if (to.k) to.k[at + i] += dk;
          if (to.decay) to.decay[at + i] += ddecay;
          for (int64_t j = 0; j < s.v_dim && decay; ++j) row[j] *= decay[at + i];
        }
      }
    }
  });
}

}  // namespace

Tensor linear_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, const Tensor& decay) {
  const bool fits = q.shape().rank() == 3 && q.shape() == k.shape() && v.shape().rank() == 3 && q.dim(0) == v.dim(0) &&
                    q.dim(1) == v.dim(1) && heads > 0 && q.dim(2) % heads == 0 && v.dim(2) % heads == 0 &&
                    (!decay.defined() || decay.shape() == k.shape());
  FOVEA_CHECK(fits, "linear_attention: q {}, k {}, v {}, decay {} of {} heads", q.shape().to_string(),
              k.shape().to_string(), v.shape().to_string(), decay.shape().to_string(), heads);
  const LinearSizes s{q.dim(0), q.dim(1), heads, q.dim(2) / heads, v.dim(2) / heads};
  Tensor y = Tensor::empty(v.shape());
  forward(s, q, k, v, decay.defined() ? decay.data() : nullptr, y.data());
  if (Tape* tape = current_tape()) {
    tape->record(y, {q, k, v, decay}, [s, q, k, v, decay, y = ValueId(y)](Tape& t) {
      const auto of = [&t](const Tensor& x) { return t.needs_grad(x) ? t.grad(x).data() : nullptr; };
      const float* dy = t.grad(y).data();
      backward(s, q, k, v, decay.defined() ? decay.data() : nullptr, dy, {of(q), of(k), of(v), of(decay)});
    });
  }
  return y;
}

}  // namespace fovea::tensor
