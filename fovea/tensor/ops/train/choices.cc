#include "fovea/tensor/ops/train/choices.h"

#include <algorithm>
#include <numeric>

#include "fovea/base/check.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/ops/shape/copy.h"
#include "fovea/tensor/ops/shape_of.h"

namespace fovea::tensor {

std::vector<int32_t> argmax(const Tensor& x) {
  const Around a(x.shape(), -1, "argmax");
  std::vector<int32_t> columns(static_cast<size_t>(a.outer));
  for (int64_t r = 0; r < a.outer; ++r)
    columns[static_cast<size_t>(r)] = static_cast<int32_t>(kernels::argmax(x.data() + r * a.n, a.n));
  return columns;
}

TopK top_k(const Tensor& x, int64_t k) {
  FOVEA_CHECK(x.shape().rank() == 2 && k >= 0 && k <= x.dim(1), "top_k: {} of each row of {}", k,
              x.shape().to_string());
  const int64_t n_rows = x.dim(0), n = x.dim(1);
  TopK top;
  top.columns.resize(static_cast<size_t>(n_rows * k));
  for_rows(n_rows, 8 * n, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> order(static_cast<size_t>(n));
    for (int64_t r = begin; r < end; ++r) {
      const float* row = x.data() + r * n;
      std::iota(order.begin(), order.end(), 0);
      const auto before = [row](int32_t i, int32_t j) { return row[i] > row[j] || (!(row[j] > row[i]) && i < j); };
      std::partial_sort(order.begin(), order.begin() + k, order.end(), before);
      std::copy_n(order.begin(), k, top.columns.begin() + r * k);
    }
  });
  top.values = gather(x, top.columns, k);
  return top;
}

Tensor one_hot(std::span<const int32_t> columns, int64_t n) {
  Tensor y = Tensor::zeros({static_cast<int64_t>(columns.size()), n});
  for (size_t r = 0; r < columns.size(); ++r) {
    FOVEA_CHECK(columns[r] < n, "one_hot: column {} of {}", columns[r], n);
    if (columns[r] >= 0) y.data()[static_cast<int64_t>(r) * n + columns[r]] = 1;
  }
  return y;
}

}  // namespace fovea::tensor
