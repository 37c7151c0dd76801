// A matrix of doubles, row after row: what the solvers take and give.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fovea::train {

struct Matrix {
  int64_t rows = 0, cols = 0;
  std::vector<double> values;  // [rows, cols]

  Matrix() = default;
  Matrix(int64_t n_rows, int64_t n_cols) : rows(n_rows), cols(n_cols), values(static_cast<size_t>(n_rows * n_cols)) {}
  Matrix(int64_t n_rows, int64_t n_cols, std::vector<double> v) : rows(n_rows), cols(n_cols), values(std::move(v)) {}
  double& operator()(int64_t row, int64_t col) { return values[static_cast<size_t>(row * cols + col)]; }
  double operator()(int64_t row, int64_t col) const { return values[static_cast<size_t>(row * cols + col)]; }
};

}  // namespace fovea::train
