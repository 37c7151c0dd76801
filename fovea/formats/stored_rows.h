// The way back of ModelSource::find: a parameter to where a file's tensor holds it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "fovea/kernels/dtype.h"
#include "fovea/tensor/parameter.h"

namespace fovea::formats {

// Neither a part of its tensor nor otherwise than the parameter.
bool is_plain(const tensor::Stored& how);
// Of the tensor that holds a parameter of this shape; dims[0] varies fastest.
std::vector<int64_t> stored_dims(const std::vector<int64_t>& shape, const tensor::Stored& how);

// Writes a parameter of `shape` into `all`, the bytes of a tensor of `dims`, in the type of both; `row_of(r)` is the
// row of `values` that stands in row r there (null: r). What is to be added when it is read (Stored::plus) stays in. A
// type of blocks only in whole rows that are not turned: the caller's mistake else.
void place_rows(kernels::DType dtype, std::span<const std::byte> values, const std::vector<int64_t>& shape,
                const tensor::Stored& how, const std::vector<int64_t>& dims,
                const std::function<int64_t(int64_t)>& row_of, std::span<std::byte> all);

}  // namespace fovea::formats
