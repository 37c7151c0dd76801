// How much the columns of each weight matrix matter: the mean square of what they were multiplied with on a text. The
// file is a GGUF as llama.cpp's imatrix writes it: "NAME.in_sum2" [columns, matrices] sums of squares, "NAME.counts"
// [1, matrices] of how many rows, for each tensor NAME.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/file_writer.h"
#include "fovea/base/result.h"

namespace fovea::formats {

class Importance {
 public:
  // Errors as of a model; kData for what is no such file, or has a value that is negative or no number.
  static Result<Importance> open(const std::string& path);
  // Adds a row of activations that a matrix of `tensor` was multiplied with: the only one, or that of one expert of
  // all.
  void add(const std::string& tensor, const float* x, int64_t n_columns, int64_t matrix = 0, int64_t n_matrices = 1);
  // `text`: where the rows come from; `chunk`: tokens of a pass.
  Status write(FileWriter file, const std::string& text, uint32_t n_chunks, uint32_t chunk) const;

  // Of the columns of each matrix of a tensor, one matrix after the other. Empty: nothing is known of it.
  std::vector<float> of(std::string_view tensor) const;
  size_t size() const { return sums_.size(); }

 private:
  struct Sums {
    std::vector<double> squares;  // [matrices][columns]
    std::vector<double> counts;   // [matrices]
  };
  std::map<std::string, Sums, std::less<>> sums_;
};

}  // namespace fovea::formats
