#include "fovea/formats/stored_rows.h"

#include <cstring>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/kernels/matmul.h"

namespace fovea::formats {

using tensor::Stored;

bool is_plain(const Stored& how) { return how.n_slices == 0 && !how.transposed && how.row_end == 0 && how.plus == 0; }

std::vector<int64_t> stored_dims(const std::vector<int64_t>& shape, const Stored& how) {
  std::vector<int64_t> dims = shape;
  if (how.fused_rows > 0) dims.back() = how.fused_rows;
  if (how.transposed) std::swap(dims[0], dims[1]);
  if (how.one_row) dims.push_back(1);
  if (how.n_slices > 0) dims.push_back(how.n_slices);
  return dims;
}

void place_rows(kernels::DType dtype, std::span<const std::byte> values, const std::vector<int64_t>& shape,
                const Stored& how, const std::vector<int64_t>& dims, const std::function<int64_t(int64_t)>& row_of,
                std::span<std::byte> all) {
  std::span<std::byte> to = all;
  std::vector<int64_t> held_dims = dims;
  if (how.n_slices > 0) {
    to = all.subspan(all.size() / static_cast<size_t>(how.n_slices) * static_cast<size_t>(how.slice),
                     all.size() / static_cast<size_t>(how.n_slices));
    held_dims.pop_back();
  }
  if (how.transposed) std::swap(held_dims[0], held_dims[1]);
  const bool vector = shape.size() < 2;
  const int64_t row = vector ? 1 : shape[0], n = vector ? shape[0] : shape[1];
  const int64_t rows = vector ? held_dims[0] : held_dims[1];
  const int64_t begin = how.row_begin, kept = (how.row_end > 0 ? how.row_end : rows) - begin;
  const int64_t period = how.row_period > 0 ? how.row_period : rows;
  const kernels::DTypeInfo& info = kernels::dtype_info(dtype);
  const auto step = static_cast<size_t>(info.block_bytes);
  const bool whole = row % info.block_elements == 0 && !(how.transposed && info.block_elements > 1);
  FOVEA_CHECK(whole, "place_rows: rows of {} elements of {}", row, info.name);
  const size_t width = static_cast<size_t>(row / info.block_elements) * step;
  FOVEA_CHECK(values.size() == width * static_cast<size_t>(n), "place_rows: {} bytes of {} rows of {}", values.size(),
              n, width);
  for (int64_t r = 0; r < n; ++r) {
    const auto held = static_cast<size_t>(r / kept * period + begin + r % kept);
    const std::byte* from = values.data() + static_cast<size_t>(row_of ? row_of(r) : r) * width;
    if (!how.transposed) {
      std::memcpy(to.data() + held * width, from, width);
      continue;
    }
    for (int64_t c = 0; c < row; ++c)
      std::memcpy(to.data() + (static_cast<size_t>(c * rows) + held) * step, from + static_cast<size_t>(c) * step,
                  step);
  }
}

}  // namespace fovea::formats
