#include "fovea/tensor/ops/shape/copy.h"

#include <algorithm>
#include <array>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/ops/shape_of.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// Runs of values that keep their order: run i of x is at from(i), and of y at to(i).
struct Runs {
  int64_t count, length;
};

template <typename From, typename To>
void copy_runs(const Runs& runs, const float* x, float* y, const From& from, const To& to) {
  for_rows(runs.count, runs.length, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) std::copy_n(x + from(i), runs.length, y + to(i));
  });
}

// dx += dy moved back; no two runs of y may meet in x.
template <typename From, typename To>
void add_runs_back(const Runs& runs, const float* dy, float* dx, const From& from, const To& to) {
  for_rows(runs.count, runs.length, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t c = 0; c < runs.length; ++c) dx[from(i) + c] += dy[to(i) + c];
    }
  });
}

template <typename From, typename To>
void move_runs(Tensor& y, const Tensor& x, const Runs& runs, From from, To to) {
  copy_runs(runs, x.data(), y.data(), from, to);
  Tape* tape = current_tape();
  if (!tape) return;
  tape->record(y, {x}, [x = ValueId(x), y = ValueId(y), runs, from, to](Tape& t) {
    const float* dy = t.grad(y).data();
    add_runs_back(runs, dy, t.grad(x).data(), from, to);
  });
}

}  // namespace

Tensor slice(const Tensor& x, int dim, int64_t begin, int64_t end) {
  const Around a(x.shape(), dim, "slice");
  FOVEA_CHECK(begin >= 0 && begin <= end && end <= a.n, "slice: [{}, {}) of {} in dimension {} of {}", begin, end, a.n,
              dim, x.shape().to_string());
  const int64_t length = (end - begin) * a.inner, row = a.n * a.inner, first = begin * a.inner;
  Tensor y = Tensor::empty(with_dim(x.shape(), a.dim, end - begin));
  move_runs(
      y, x, {a.outer, length}, [=](int64_t i) { return i * row + first; }, [=](int64_t i) { return i * length; });
  return y;
}

Tensor concat(const std::vector<Tensor>& parts, int dim) {
  FOVEA_CHECK(!parts.empty(), "concat: nothing to join");
  const Around a(parts[0].shape(), dim, "concat");
  int64_t n = 0;
  for (const Tensor& part : parts) {
    const bool fits =
        part.shape().rank() == parts[0].shape().rank() && with_dim(part.shape(), a.dim, a.n) == parts[0].shape();
    FOVEA_CHECK(fits, "concat: shapes {} and {} in dimension {}", parts[0].shape().to_string(),
                part.shape().to_string(), dim);
    n += part.dim(a.dim);
  }
  Tensor y = Tensor::empty(with_dim(parts[0].shape(), a.dim, n));
  // move(part, runs, from, to) for every part, at its place in the rows of y.
  const auto each = [outer = a.outer, inner = a.inner, dim = a.dim, row = n * a.inner](const auto& all,
                                                                                       const auto& move) {
    int64_t at = 0;
    for (const auto& part : all) {
      const int64_t length = part.shape[dim] * inner;
      move(
          part, Runs{outer, length}, [=](int64_t i) { return i * length; }, [=](int64_t i) { return i * row + at; });
      at += length;
    }
  };
  const std::vector<ValueId> ids(parts.begin(), parts.end());
  size_t index = 0;
  each(ids, [&](const ValueId&, const Runs& runs, const auto& from, const auto& to) {
    copy_runs(runs, parts[index++].data(), y.data(), from, to);
  });
  if (Tape* tape = current_tape()) {
    tape->record(y, parts, [ids, each, y = ValueId(y)](Tape& t) {
      const float* dy = t.grad(y).data();
      each(ids, [&](const ValueId& part, const Runs& runs, const auto& from, const auto& to) {
        if (t.needs_grad(part)) add_runs_back(runs, dy, t.grad(part).data(), from, to);
      });
    });
  }
  return y;
}

Tensor permute(const Tensor& x, std::initializer_list<int> order) {
  const int rank = x.shape().rank();
  std::array<int64_t, kMaxRank> dims{}, strides{}, x_strides{};
  std::array<bool, kMaxRank> used{};
  bool fits = static_cast<int>(order.size()) == rank && rank > 0;
  int64_t stride = 1;
  for (int i = rank; i-- > 0;) x_strides[static_cast<size_t>(i)] = stride, stride *= x.dim(i);
  int to = 0;
  for (const int from : order) {
    fits = fits && from >= 0 && from < rank && !used[static_cast<size_t>(from)];
    if (!fits) break;
    used[static_cast<size_t>(from)] = true;
    dims[static_cast<size_t>(to)] = x.dim(from),
    strides[static_cast<size_t>(to)] = x_strides[static_cast<size_t>(from)];
    ++to;
  }
  FOVEA_CHECK(fits, "permute: the order does not name each dimension of {} once", x.shape().to_string());
  const auto last = static_cast<size_t>(rank - 1);
  const int64_t n = dims[last], step = strides[last], n_rows = n > 0 ? x.elements() / n : 0;
  const auto from = [=](int64_t row) {  // where a row of y over its last dimension begins in x
    int64_t at = 0;
    for (size_t d = last; d-- > 0;) at += row % dims[d] * strides[d], row /= dims[d];
    return at;
  };
  Tensor y = Tensor::empty(shape_of(dims, rank));
  const float* in = x.data();
  float* out = y.data();
  for_rows(n_rows, n, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* row = in + from(r);
      for (int64_t c = 0; c < n; ++c) out[r * n + c] = row[c * step];
    }
  });
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [x = ValueId(x), y = ValueId(y), n, step, n_rows, from](Tape& t) {
      const float* dy = t.grad(y).data();
      float* dx = t.grad(x).data();
      for_rows(n_rows, n, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          float* row = dx + from(r);
          for (int64_t c = 0; c < n; ++c) row[c * step] += dy[r * n + c];
        }
      });
    });
  }
  return y;
}

Tensor pad(const Tensor& x, int dim, int64_t before, int64_t after, float value) {
  const Around a(x.shape(), dim, "pad");
  FOVEA_CHECK(before >= 0 && after >= 0, "pad: {} before and {} after", before, after);
  const int64_t length = a.n * a.inner, row = (before + a.n + after) * a.inner, first = before * a.inner;
  Tensor y = Tensor::empty(with_dim(x.shape(), a.dim, before + a.n + after));
  std::fill_n(y.data(), y.elements(), value);
  move_runs(
      y, x, {a.outer, length}, [=](int64_t i) { return i * length; }, [=](int64_t i) { return i * row + first; });
  return y;
}

Tensor repeat(const Tensor& x, int dim, int64_t times) {
  FOVEA_CHECK(times > 0, "repeat: {} times", times);
  return concat(std::vector<Tensor>(static_cast<size_t>(times), x), dim);
}

Tensor gather(const Tensor& x, std::span<const int32_t> columns, int64_t per_row) {
  FOVEA_CHECK(x.shape().rank() == 2 && static_cast<int64_t>(columns.size()) == x.dim(0) * per_row,
              "gather: {} columns, {} for each row of {}", columns.size(), per_row, x.shape().to_string());
  const int64_t n = x.dim(1);
  for (const int32_t c : columns) FOVEA_CHECK(c >= 0 && c < n, "gather: column {} of {}", c, n);
  Tensor y = Tensor::empty({x.dim(0), per_row});
  const std::vector<int32_t> at(columns.begin(), columns.end());
  for (int64_t i = 0; i < y.elements(); ++i) y.data()[i] = x.data()[i / per_row * n + at[static_cast<size_t>(i)]];
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [x = ValueId(x), y = ValueId(y), at, n, per_row](Tape& t) {
      const float* dy = t.grad(y).data();
      float* dx = t.grad(x).data();
      for (size_t i = 0; i < at.size(); ++i) dx[static_cast<int64_t>(i) / per_row * n + at[i]] += dy[i];
    });
  }
  return y;
}

Tensor scatter_add(const Tensor& x, std::span<const int32_t> rows, int64_t n_rows) {
  FOVEA_CHECK(x.shape().rank() >= 1 && x.dim(0) == static_cast<int64_t>(rows.size()), "scatter_add: {} rows for x {}",
              rows.size(), x.shape().to_string());
  for (const int32_t r : rows) FOVEA_CHECK(r >= 0 && r < n_rows, "scatter_add: row {} of {}", r, n_rows);
  const Around a(x.shape(), 0, "scatter_add");
  const std::vector<int32_t> to(rows.begin(), rows.end());
  Tensor y = Tensor::zeros(with_dim(x.shape(), 0, n_rows));
  const float* in = x.data();
  float* out = y.data();
  for_columns(a.inner, a.n, [&](int64_t begin, int64_t end) {  // rows repeat: in order within a column
    for (int64_t i = 0; i < a.n; ++i) {
      for (int64_t c = begin; c < end; ++c) out[to[static_cast<size_t>(i)] * a.inner + c] += in[i * a.inner + c];
    }
  });
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [x = ValueId(x), y = ValueId(y), to, inner = a.inner](Tape& t) {
      const float* dy = t.grad(y).data();
      float* dx = t.grad(x).data();
      for_rows(static_cast<int64_t>(to.size()), inner, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          for (int64_t c = 0; c < inner; ++c) dx[i * inner + c] += dy[to[static_cast<size_t>(i)] * inner + c];
        }
      });
    });
  }
  return y;
}

}  // namespace fovea::tensor
