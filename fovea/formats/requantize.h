// A GGUF file of another type: which tensor becomes what, and the writing of it. Knows no family, so that it works on
// models that cannot run here.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/formats/gguf_file_writer.h"
#include "fovea/formats/importance.h"

namespace fovea::formats {

// "q4_k", as a user writes it; kUsage with the list for what cannot be made.
Result<kernels::DType> parse_type(std::string_view name);
std::vector<std::string> quantizable_types();  // in the order of their numbers

// What the key general.file_type says of a file of mostly this type.
uint32_t file_type_of(kernels::DType type);
// Tensors that no type of blocks is for: norms, routers, tables of positions and types.
bool keeps_its_type(std::string_view name);

struct PlannedTensor {
  const TensorInfo* from;
  kernels::DType to;
  uint64_t bytes;
};

// Matrices take the type; where a row is no whole number of its blocks, one with blocks of 32 (q2_k, q3_k, iq4_xs,
// tq2_0: iq4_nl; q4_k: q5_0; q5_k: q5_1; q6_k: q8_0), else f16. The matrix that gives the logits and token embeddings
// that serve for it take q6_k (q8_0) at the least. Vectors, routers, tables of positions and types stay as they are,
// and with f32 everything becomes float32.
std::vector<PlannedTensor> plan_types(const Gguf& in, kernels::DType type);

struct RequantizeOptions {
  const Importance* importance = nullptr;       // of tensors that it does not know every column counts alike
  std::function<void(uint64_t done)> progress;  // bytes of `in` that were read
  const std::atomic<bool>* cancel = nullptr;    // kCancelled
};

// Writes the planned tensors and the keys of `in`. Tensors whose type stays are copied. Returns the bytes of the file.
// kData for weights that are not finite and importance of another width; kIo if `in` changed meanwhile.
Result<uint64_t> requantize(const Gguf& in, kernels::DType type, const std::vector<PlannedTensor>& plan,
                            FileWriter file, const RequantizeOptions& options = {});

}  // namespace fovea::formats
