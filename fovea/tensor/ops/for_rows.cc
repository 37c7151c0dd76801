#include "fovea/tensor/ops/for_rows.h"

#include <algorithm>

namespace fovea::tensor {

void for_rows(int64_t n_rows, int64_t row_elements, FunctionRef<void(int64_t begin, int64_t end)> fn) {
  if (n_rows <= 0) return;
  if (n_rows * row_elements < kInlineElements || n_rows == 1) return fn(0, n_rows);
  // Parts of a quarter of a thread's share even out threads that start late.
  const int64_t wanted = std::min<int64_t>(n_rows, 4 * pool().size());
  const int64_t least = std::max<int64_t>(1, kInlineElements / 4 / std::max<int64_t>(1, row_elements));
  const int64_t step = std::max(least, (n_rows + wanted - 1) / wanted);
  const auto part = [&](int64_t task, int) { fn(task * step, std::min(n_rows, (task + 1) * step)); };
  pool().for_each((n_rows + step - 1) / step, part);
}

void for_columns(int64_t n_columns, int64_t n_rows, FunctionRef<void(int64_t begin, int64_t end)> fn) {
  constexpr int64_t kGrain = 32;
  const auto grains = [&](int64_t begin, int64_t end) { fn(begin * kGrain, std::min(n_columns, end * kGrain)); };
  for_rows((n_columns + kGrain - 1) / kGrain, kGrain * n_rows, grains);
}

void for_elements(int64_t n, FunctionRef<void(int64_t begin, int64_t end)> fn) {
  constexpr int64_t kGrain = 64;
  const auto grains = [&](int64_t begin, int64_t end) { fn(begin * kGrain, std::min(n, end * kGrain)); };
  for_rows((n + kGrain - 1) / kGrain, kGrain, grains);
}

}  // namespace fovea::tensor
