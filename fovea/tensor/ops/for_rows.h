// Splits independent rows over the thread pool where that pays. For this room only.
#pragma once

#include <cstdint>

#include "fovea/base/threads.h"

namespace fovea::tensor {

// Below this many elements one thread is faster: waking the others takes microseconds.
inline constexpr int64_t kInlineElements = 32 * 1024;

// fn(begin, end) over parts of [0, n_rows), in parallel from kInlineElements on. Every row must
// give the same bits in any split.
void for_rows(int64_t n_rows, int64_t row_elements, FunctionRef<void(int64_t begin, int64_t end)> fn);

// fn(begin, end) over parts of [0, n_columns) for sums over n_rows: every column is one task's, rows in rising order.
void for_columns(int64_t n_columns, int64_t n_rows, FunctionRef<void(int64_t begin, int64_t end)> fn);

// for_rows over the elements of a flat array; parts start at multiples of 64.
void for_elements(int64_t n, FunctionRef<void(int64_t begin, int64_t end)> fn);

}  // namespace fovea::tensor
