#include "fovea/tensor/ops/shape/select_rows.h"

#include <algorithm>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

Shape with_first(const Shape& shape, int64_t first) {
  switch (shape.rank()) {
    case 1: return {first};
    case 2: return {first, shape[1]};
    case 3: return {first, shape[1], shape[2]};
    default: return {first, shape[1], shape[2], shape[3]};
  }
}

}  // namespace

Tensor select_rows(const Tensor& x, std::span<const int32_t> rows) {
  FOVEA_CHECK(x.shape().rank() >= 1, "select_rows: x has no rows");
  const int64_t n_rows = x.dim(0), n = static_cast<int64_t>(rows.size());
  Tensor y = Tensor::empty(with_first(x.shape(), n));
  const int64_t row = n_rows > 0 ? x.elements() / n_rows : 0;
  for (const int32_t from : rows) FOVEA_CHECK(from >= 0 && from < n_rows, "select_rows: row {} of {}", from, n_rows);
  const float* px = x.data();
  float* py = y.data();
  for_rows(n, row, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) std::copy_n(px + rows[static_cast<size_t>(i)] * row, row, py + i * row);
  });
  // dx[rows[i]] += dy[i]; a row may be taken more than once, so a column is one thread's and in order
  if (Tape* tape = current_tape()) {
    tape->record(y, {x},
                 [x = ValueId(x), y = ValueId(y), row, rows = std::vector<int32_t>(rows.begin(), rows.end())](Tape& t) {
                   const float* dy = t.grad(y).data();
                   float* dx = t.grad(x).data();
                   for_columns(row, static_cast<int64_t>(rows.size()), [&](int64_t begin, int64_t end) {
                     const float* from = dy;
                     for (const int32_t to : rows) {
                       for (int64_t c = begin; c < end; ++c) dx[to * row + c] += from[c];
                       from += row;
                     }
                   });
                 });
  }
  return y;
}

}  // namespace fovea::tensor
