// A row of a table of weights: what a family (or a method) asks of a model's files, and where it goes.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "fovea/tensor/init.h"
#include "fovea/tensor/weight.h"

namespace fovea::tensor {

// How a file's tensor holds the parameter.
struct Stored {
  int64_t slice = 0, n_slices = 0;     // n_slices > 0: this one of so many matrices or vectors; then
  bool transposed = false;             // turned,
  int64_t row_begin = 0, row_end = 0;  // then these rows of a fused tensor (elements of a vector); 0, 0: all,
  int64_t row_period = 0;              // > 0: of every so many rows (heads whose q, k and v lie side by side);
  int64_t fused_rows = 0;              // > 0: all that the tensor has
  float plus = 0;                      // added to every element
  bool one_row = false;                // a vector: there a matrix of one row
};

struct Parameter {
  std::string name;            // in GGUF files, and in messages
  std::string hf_name;         // in Hugging Face folders
  std::vector<int64_t> shape;  // shape[0] varies fastest
  Weight* target;
  Init init = Init::normal(0.02f);  // of a fresh one: matrices of transformers; norms are ones, biases zeros
  bool optional = false;
  Stored gguf = {}, hf = {};
  // Where folders may hold it under another name instead, packed in another way: read if hf_name is not there.
  std::string hf_packed_name = {};
  Stored hf_packed = {};
  bool fixed = false;  // read from files, never trained: what it does has no gradient
  // What training keeps its values within: they are put back after every step.
  float least = -std::numeric_limits<float>::infinity(), most = std::numeric_limits<float>::infinity();
};

}  // namespace fovea::tensor
