#include "fovea/tensor/ops/product/adapted.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "fovea/tensor/ops/math/add.h"
#include "fovea/tensor/ops/math/binary.h"
#include "fovea/tensor/ops/math/mul.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/ops/product/batched.h"
#include "fovea/tensor/ops/product/matmul.h"
#include "fovea/tensor/ops/shape/copy.h"
#include "fovea/tensor/ops/shape/select_rows.h"
#include "fovea/tensor/ops/shape/view.h"

namespace fovea::tensor {
namespace {

Tensor scaled(const Tensor& x, float scale) { return scale == 1 ? x : affine(x, scale); }

// Columns [begin, begin + n) of y, which the rows of a weight make.
Tensor change_columns(const Tensor& y, const Tensor& x, const Weight& bias, const Rows& rows) {
  const int64_t begin = rows.begin, end = begin + rows.values.dim(0);
  Tensor part = matmul(x, Weight::from("rows", rows.values));
  if (!rows.replace) {
    part = add(slice(y, 1, begin, end), part);
  } else if (bias.defined()) {
    part = add_spread(part, slice(weight_values(bias), -1, begin, end));
  }
  return concat({slice(y, 1, 0, begin), part, slice(y, 1, end, y.dim(1))}, 1);
}

Tensor change_looked_up(const Tensor& y, std::span<const int32_t> tokens, const Rows& rows) {
  std::vector<int32_t> at, from;  // rows of y, rows of rows.values
  Tensor kept = Tensor::empty({y.dim(0), 1});
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int64_t row = tokens[i] - rows.begin;
    const bool named = row >= 0 && row < rows.values.dim(0);
    kept.data()[i] = named && rows.replace ? 0.0f : 1.0f;
    if (!named) continue;
    at.push_back(static_cast<int32_t>(i));
    from.push_back(static_cast<int32_t>(row));
  }
  if (at.empty()) return y;
  const Tensor found = scatter_add(select_rows(rows.values, from), at, y.dim(0));
  return add(rows.replace ? mul_spread(y, kept) : y, found);
}

// Rows of w by their factors, or by those that all of its rows share.
Tensor masked(const Tensor& rows, const Tensor& factors) {
  if (factors.shape() == rows.shape()) return mul(rows, factors);
  const int64_t n = factors.dim(1);
  return merge_heads(mul_spread(split_heads(rows, n), reshape(factors, {n, 1})));
}

// mask * w, in float32.
Weight masked_weight(const Weight& w, const Mask& mask) {
  return Weight::from(w.name, masked(weight_values(w), mask_factors(mask, mask.values)));
}

Tensor change_part(Tensor y, const Tensor& x, const Weight& bias, const Adapter& adapter) {
  for (const Rows& rows : adapter.rows) y = change_columns(y, x, bias, rows);
  for (const Lora& lora : adapter.loras) {
    if (lora.use != Lora::Use::kLookUps) y = matmul_add(y, scaled(matmul(x, lora.of_a), lora.scale), lora.of_b);
  }
  return y;
}

Tensor change_looked_up_part(Tensor y, std::span<const int32_t> tokens, const Adapter& adapter) {
  if (const Mask& mask = adapter.mask; mask.values.defined())
    y = masked(y, mask_factors(mask, mask.values.dim(0) == 1 ? mask.values : select_rows(mask.values, tokens)));
  for (const Rows& rows : adapter.rows) y = change_looked_up(y, tokens, rows);
  for (const Lora& lora : adapter.loras) {
    if (lora.use != Lora::Use::kProducts)
      y = add(y, batched_product(scaled(select_rows(lora.b, tokens), lora.scale), lora.a));
  }
  return y;
}

// `change` of the rows of y that have an adapter; the others stay.
template <typename Change>
Tensor change_parts(const Tensor& y, const Weight& w, int64_t n, Change change) {
  Tensor all;
  std::vector<Tensor> parts;
  for_adapters(w, n, [&](int64_t begin, int64_t end, const Adapter* adapter) {
    const bool whole = begin == 0 && end == n;
    const Tensor part = !y.defined() || whole ? y : slice(y, 0, begin, end);
    Tensor changed = adapter ? change(part, begin, end, *adapter) : part;
    if (whole) {
      all = std::move(changed);
    } else {
      parts.push_back(std::move(changed));
    }
  });
  return parts.empty() ? all : concat(parts, 0);
}

}  // namespace

Tensor change_product(Tensor y, const Tensor& x, const Weight& w, const Weight& bias) {
  const int64_t n = x.dim(0);
  return change_parts(y, w, n, [&](Tensor part, int64_t begin, int64_t end, const Adapter& adapter) {
    const Tensor rows = begin == 0 && end == n ? x : slice(x, 0, begin, end);
    if (adapter.mask.values.defined()) part = matmul(rows, masked_weight(w, adapter.mask), bias);
    return change_part(std::move(part), rows, bias, adapter);
  });
}

Tensor change_rows(Tensor y, std::span<const int32_t> tokens, const Weight& w) {
  return change_parts(y, w, y.dim(0), [&](Tensor part, int64_t begin, int64_t end, const Adapter& adapter) {
    const auto some = tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    return change_looked_up_part(std::move(part), some, adapter);
  });
}

}  // namespace fovea::tensor
