#include "fovea/tensor/ops/recurrent/linear_attention.h"

#include <algorithm>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/sgemm.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// Steps are taken in chunks, whose products are of matrices: with A[t, s] = q[t] . k[s] decayed for s <= t of a chunk,
// and S the state before it, y = A v + (q decayed from the chunk's begin) S. The fewer the steps of a chunk with decay,
// the less is done outside of products.
constexpr int64_t kChunk = 64, kDecayedChunk = 16;

struct Side {  // rows of one head
  const float* data = nullptr;
  int64_t ld = 0;
  const float* row(int64_t t) const { return data + t * ld; }
};

struct LinearSizes {
  int64_t batch, n, heads, k_dim, v_dim;
  bool decayed;
  int64_t state() const { return k_dim * v_dim; }
  int64_t chunk() const { return std::min(n, decayed ? kDecayedChunk : kChunk); }
  int64_t chunks() const { return n == 0 ? 0 : (n + chunk() - 1) / chunk(); }
  int64_t at(int64_t task, int64_t t, int64_t dim) const {
    return (task / heads * n + t) * heads * dim + task % heads * dim;
  }
  // fn(task) for every head of every sample: one thread's, chunks in order
  template <typename Fn>
  void each(const Fn& fn) const {
    pool().for_each(batch * heads, [&](int64_t task, int) { fn(task); });
  }
};

// C = A B or, where `onto`, C += A B, of row-major sides that may be transposed.
struct Turned {
  Side side;
  bool transposed = true;
  Turned(const Side& s) : side(s), transposed(false) {}  // NOLINT: implicit by design
  Turned(const Side& s, bool turned) : side(s), transposed(turned) {}
};
Turned turned(const Side& s) { return {s, true}; }

void product(int64_t m, int64_t n, int64_t k, const Turned& a, const Turned& b, float* c, int64_t ld_c, bool onto) {
  kernels::sgemm({.m = m,
                  .n = n,
                  .k = k,
                  .a = a.side.data,
                  .ld_a = a.side.ld,
                  .a_transposed = a.transposed,
                  .b = b.side.data,
                  .ld_b = b.side.ld,
                  .b_transposed = b.transposed,
                  .c = c,
                  .ld_c = ld_c,
                  .accumulate = onto});
}

float dot(const float* a, const float* b, int64_t n) {
  float lanes[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int64_t k = 0; k < 8; ++k) lanes[k] += a[i + k] * b[i + k];
  }
  for (int64_t k = 0; i < n; ++i, ++k) lanes[k] += a[i] * b[i];
  return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

// What a chunk of one head is made of. With decay, products of it are kept: `since` of the chunk's steps to t, `until`
// of those after t, and q and k times them; no product is divided by, so that a decay may be 0.
class Chunk {
 public:
  explicit Chunk(const LinearSizes& sizes) : s_(sizes) {
    const auto rows = static_cast<size_t>(s_.chunk()), width = static_cast<size_t>(s_.k_dim);
    a_.resize(rows * rows);
    if (!s_.decayed) return;
    for (std::vector<float>* held : {&since_, &until_, &held_q_, &held_k_}) held->resize(rows * width);
    from_.resize(width);
  }

  void set(int64_t rows, const Side& q_rows, const Side& k_rows, const Side& v_rows, const Side& decay_rows) {
    n = rows, q = q_begin = q_rows, k = k_end = k_rows, v = v_rows, decay = decay_rows;
    if (!s_.decayed) {
      product(n, n, s_.k_dim, q, turned(k), a_.data(), n, false);
      for (int64_t t = 0; t < n; ++t) std::fill(a_.begin() + t * n + t + 1, a_.begin() + (t + 1) * n, 0.0f);
      return;
    }
    const int64_t width = s_.k_dim;
    for (int64_t t = 0; t < n; ++t) {
      for (int64_t i = 0; i < width; ++i) {
        const float kept = t == 0 ? decay.row(t)[i] : since_[at(t - 1) + i] * decay.row(t)[i];
        since_[at(t) + i] = kept;
        held_q_[at(t) + i] = q.row(t)[i] * kept;
      }
    }
    for (int64_t t = n; t-- > 0;) {
      for (int64_t i = 0; i < width; ++i) {
        const float kept = t + 1 == n ? 1.0f : until_[at(t + 1) + i] * decay.row(t + 1)[i];
        until_[at(t) + i] = kept;
        held_k_[at(t) + i] = k.row(t)[i] * kept;
      }
    }
    for (int64_t t = 0; t < n; ++t) {
      std::copy_n(q.row(t), width, from_.data());
      for (int64_t s = t; s >= 0; --s) {
        a_[t * n + s] = dot(from_.data(), k.row(s), width);
        for (int64_t i = 0; i < width; ++i) from_[i] *= decay.row(s)[i];
      }
      std::fill(a_.begin() + t * n + t + 1, a_.begin() + (t + 1) * n, 0.0f);
    }
    q_begin = {held_q_.data(), width}, k_end = {held_k_.data(), width};
  }
  // The state after the chunk, or the gradient before it: state = diag(all decays) state + rows^T columns
  void pass(const Side& rows, const Side& columns, float* state) const {
    for (int64_t i = 0; i < s_.k_dim && s_.decayed; ++i) {
      const float kept = since_[at(n - 1) + i];
      for (int64_t j = 0; j < s_.v_dim; ++j) state[i * s_.v_dim + j] *= kept;
    }
    product(s_.k_dim, s_.v_dim, n, turned(rows), columns, state, s_.v_dim, true);
  }
  Side scores() const { return {a_.data(), n}; }
  const float* since(int64_t t) const { return since_.data() + at(t); }
  const float* until(int64_t t) const { return until_.data() + at(t); }

  int64_t n = 0;
  Side q, k, v, decay;
  Side q_begin, k_end;  // q decayed from the chunk's begin, k to its end

 private:
  size_t at(int64_t t) const { return static_cast<size_t>(t * s_.k_dim); }
  LinearSizes s_;
  std::vector<float> a_, since_, until_, held_q_, held_k_, from_;
};

struct Inputs {
  Tensor q, k, v, decay;
  void set(Chunk& chunk, const LinearSizes& s, int64_t task, int64_t index) const {
    const int64_t first = index * s.chunk(), ld = s.heads * s.k_dim, at = s.at(task, first, s.k_dim);
    chunk.set(std::min(s.chunk(), s.n - first), {q.data() + at, ld}, {k.data() + at, ld},
              {v.data() + s.at(task, first, s.v_dim), s.heads * s.v_dim},
              s.decayed ? Side{decay.data() + at, ld} : Side{});
  }
};

void forward(const LinearSizes& s, const Inputs& in, float* y) {
  s.each([&](int64_t task) {
    Chunk chunk(s);
    std::vector<float> state(static_cast<size_t>(s.state()), 0.0f);
    for (int64_t index = 0; index < s.chunks(); ++index) {
      in.set(chunk, s, task, index);
      float* out = y + s.at(task, index * s.chunk(), s.v_dim);
      const int64_t ld = s.heads * s.v_dim;
      product(chunk.n, s.v_dim, chunk.n, chunk.scores(), chunk.v, out, ld, false);
      product(chunk.n, s.v_dim, s.k_dim, chunk.q_begin, Side{state.data(), s.v_dim}, out, ld, true);
      chunk.pass(chunk.k_end, chunk.v, state.data());
    }
  });
}

struct Gradients {
  float *q, *k, *v, *decay;  // of the chunk's first row; null where none is wanted
};

// What a chunk of backward needs besides; `of_q` = dy S^T and `of_k` = v R^T are the parts of dq and dk that come
// through the state before the chunk, and through R, the gradient of the state after it.
struct Work {
  explicit Work(const LinearSizes& s) {
    const auto rows = static_cast<size_t>(s.chunk()), width = static_cast<size_t>(s.k_dim);
    scores.resize(rows * rows);
    if (!s.decayed) return;
    for (std::vector<float>* held : {&of_q, &of_k, &prefix}) held->resize(rows * width);
    for (std::vector<float>* held : {&sum, &from, &both}) held->resize(width);
  }
  std::vector<float> scores, of_q, of_k, prefix, sum, from, both;
};

// dq, dk and ddecay of a chunk with decay. Sums over s < u <= t, in which decay[u] is left out for its own gradient.
void decayed_back(const LinearSizes& s, const Chunk& c, const float* state, const float* r, Work& w,
                  const Gradients& to) {
  const int64_t width = s.k_dim, ld = s.heads * width, n = c.n;
  const auto add = [&](float* into, int64_t t, auto value) {
    if (!into) return;
    for (int64_t i = 0; i < width; ++i) into[t * ld + i] += value(i);
  };
  for (int64_t t = 0; t < n; ++t) {  // inside the chunk
    const float* d = w.scores.data() + t * n;
    std::fill(w.sum.begin(), w.sum.end(), 0.0f);
    for (int64_t u = 0; u <= t; ++u) {
      const float *decay = c.decay.row(u), *k = c.k.row(u);
      float *prefix = w.prefix.data() + u * width, *sum = w.sum.data();
      for (int64_t i = 0; i < width; ++i) {
        prefix[i] = sum[i];  // sum over s < u of d[s] k[s], decayed to u - 1
        sum[i] = sum[i] * decay[i] + d[u] * k[i];
      }
    }
    add(to.q, t, [&](int64_t i) { return w.sum[i] + c.since(t)[i] * w.of_q[t * width + i]; });
    std::copy_n(c.q.row(t), width, w.from.data());
    for (int64_t u = t; u >= 0; --u) {
      const float *decay = c.decay.row(u), *prefix = w.prefix.data() + u * width;
      float* from = w.from.data();
      add(to.k, u, [&](int64_t i) { return d[u] * from[i]; });
      add(to.decay, u, [&](int64_t i) { return from[i] * prefix[i]; });
      for (int64_t i = 0; i < width; ++i) from[i] *= decay[i];
    }
  }
  // From the state before to steps of the chunk, from these to the state after, and from the one to the other.
  for (int64_t i = 0; i < width; ++i) w.both[i] = dot(state + i * s.v_dim, r + i * s.v_dim, s.v_dim);
  std::fill(w.sum.begin(), w.sum.end(), 0.0f);
  for (int64_t u = 0; u < n; ++u) {
    const float *until = c.until(u), *of_k = w.of_k.data() + u * width, *k = c.k.row(u), *decay = c.decay.row(u);
    add(to.k, u, [&](int64_t i) { return until[i] * of_k[i]; });
    add(to.decay, u,
        [&](int64_t i) { return until[i] * (w.sum[i] + (u == 0 ? 1.0f : c.since(u - 1)[i]) * w.both[i]); });
    for (int64_t i = 0; i < width; ++i) w.sum[i] = decay[i] * w.sum[i] + k[i] * of_k[i];
  }
  std::fill(w.sum.begin(), w.sum.end(), 0.0f);
  for (int64_t u = n; u-- > 0;) {
    const float *of_q = w.of_q.data() + u * width, *q = c.q.row(u), *decay = c.decay.row(u);
    for (int64_t i = 0; i < width; ++i) w.sum[i] += q[i] * of_q[i];
    add(to.decay, u, [&](int64_t i) { return (u == 0 ? 1.0f : c.since(u - 1)[i]) * w.sum[i]; });
    for (int64_t i = 0; i < width; ++i) w.sum[i] *= decay[i];
  }
}

// With D = dy v^T below the diagonal, S the state before the chunk and R the gradient of that after it, without decay:
// dq = D k + dy S^T, dk = D^T q + v R^T, dv = A^T dy + k R
void chunk_back(const LinearSizes& s, const Chunk& c, const Side& dy, const Side& state, const Side& r, Work& w,
                const Gradients& to) {
  const int64_t n = c.n, ld_k = s.heads * s.k_dim, ld_v = s.heads * s.v_dim;
  product(n, n, s.v_dim, dy, turned(c.v), w.scores.data(), n, false);
  for (int64_t t = 0; t < n; ++t) std::fill(w.scores.begin() + t * n + t + 1, w.scores.begin() + (t + 1) * n, 0.0f);
  if (to.v) {
    product(n, s.v_dim, n, turned(c.scores()), dy, to.v, ld_v, true);
    product(n, s.v_dim, s.k_dim, c.k_end, r, to.v, ld_v, true);
  }
  if (s.decayed) {
    product(n, s.k_dim, s.v_dim, dy, turned(state), w.of_q.data(), s.k_dim, false);
    product(n, s.k_dim, s.v_dim, c.v, turned(r), w.of_k.data(), s.k_dim, false);
    return decayed_back(s, c, state.data, r.data, w, to);
  }
  const Side d{w.scores.data(), n};
  if (to.q) {
    product(n, s.k_dim, n, d, c.k, to.q, ld_k, true);
    product(n, s.k_dim, s.v_dim, dy, turned(state), to.q, ld_k, true);
  }
  if (to.k) {
    product(n, s.k_dim, n, turned(d), c.q, to.k, ld_k, true);
    product(n, s.k_dim, s.v_dim, c.v, turned(r), to.k, ld_k, true);
  }
}

void backward(const LinearSizes& s, const Inputs& in, const float* dy, const Gradients& to) {
  s.each([&](int64_t task) {
    Chunk chunk(s);
    Work work(s);
    const auto size = static_cast<size_t>(s.state());
    std::vector<float> states(size * static_cast<size_t>(s.chunks()), 0.0f),
        r(size, 0.0f);  // states: before each chunk
    for (int64_t index = 0; index + 1 < s.chunks(); ++index) {
      in.set(chunk, s, task, index);
      float* before = states.data() + index * s.state();
      std::copy_n(before, size, before + s.state());
      chunk.pass(chunk.k_end, chunk.v, before + s.state());
    }
    for (int64_t index = s.chunks(); index-- > 0;) {
      in.set(chunk, s, task, index);
      const int64_t k_at = s.at(task, index * s.chunk(), s.k_dim), v_at = s.at(task, index * s.chunk(), s.v_dim);
      const auto of = [](float* data, int64_t at) { return data ? data + at : nullptr; };
      const Side d{dy + v_at, s.heads * s.v_dim};
      chunk_back(s, chunk, d, {states.data() + index * s.state(), s.v_dim}, {r.data(), s.v_dim}, work,
                 {of(to.q, k_at), of(to.k, k_at), of(to.v, v_at), of(to.decay, k_at)});
      chunk.pass(chunk.q_begin, d, r.data());
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
  const LinearSizes s{q.dim(0), q.dim(1), heads, q.dim(2) / heads, v.dim(2) / heads, decay.defined()};
  const Inputs in{q, k, v, decay};
  Tensor y = Tensor::empty(v.shape());
  forward(s, in, y.data());
  if (Tape* tape = current_tape()) {
    tape->record(y, {q, k, v, decay}, [s, in, y = ValueId(y)](Tape& t) {
      const auto of = [&t](const Tensor& x) { return t.needs_grad(x) ? t.grad(x).data() : nullptr; };
      backward(s, in, t.grad(y).data(), {of(in.q), of(in.k), of(in.v), of(in.decay)});
    });
  }
  return y;
}

}  // namespace fovea::tensor
