#include "fovea/tensor/ops/shape/embed.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/ops/product/adapted.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {

Tensor embed(const Weight& table, std::span<const int32_t> tokens) {
  const int64_t n = static_cast<int64_t>(tokens.size()), d_model = table.cols();
  for (const int32_t token : tokens)
    FOVEA_CHECK(token >= 0 && token < table.rows(), "embed: token {} is not in [0, {})", token, table.rows());
  Tensor y = Tensor::empty({n, d_model});
  const auto* rows = static_cast<const std::byte*>(table.view.data);
  const uint64_t stride = kernels::row_bytes(table.view.dtype, d_model);
  float* py = y.data();
  for_rows(n, d_model, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const auto token = static_cast<uint64_t>(tokens[static_cast<size_t>(t)]);
      kernels::dequantize(table.view.dtype, rows + token * stride, d_model, py + t * d_model);
    }
  });
  // A table that logits use too is packed for them; looking up many rows has made its file form resident once more.
  constexpr int64_t kMany = 64;
  if (table.packed && n >= kMany) table.packed->done_again(table.view);
  // dtable[tokens[t]] += dy[t]; tokens repeat, so a column is one thread's and in order
  if (Tape* tape = current_tape()) {
    tape->record(y, {table.value},
                 [value = ValueId(table.value), y = ValueId(y), d_model,
                  ids = std::vector<int32_t>(tokens.begin(), tokens.end())](Tape& t) {
                   const float* dy = t.grad(y).data();
                   float* dtable = t.grad(value).data();
                   for_columns(d_model, static_cast<int64_t>(ids.size()), [&](int64_t begin, int64_t end) {
                     const float* from = dy;
                     for (const int32_t id : ids) {
                       for (int64_t c = begin; c < end; ++c) dtable[id * d_model + c] += from[c];
                       from += d_model;
                     }
                   });
                 });
  }
  return is_adapted(table) ? change_rows(std::move(y), tokens, table) : y;
}

}  // namespace fovea::tensor
