// Element types by their ggml number: every one is known by name and block size, so that a file
// that uses an unsupported one is refused in one sentence.
#pragma once

#include <cstdint>
#include <string_view>

namespace fovea::kernels {

enum class DType : int32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ8_1 = 9,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
  kNVFP4 = 40,
  kQ1_0 = 41,
  // Of other files; numbers that no GGUF file can have.
  kF8_E4M3 = -1,
  kF8_E5M2 = -2,
  kBool = -3,
  kU8 = -4,
  kU16 = -5,
  kU32 = -6,
  kU64 = -7,
};

struct DTypeInfo {
  std::string_view name;  // "Q4_K"
  int block_elements;     // elements per block; a row is a whole number of blocks
  int block_bytes;
  bool native;  // Fovea multiplies with it
};

inline constexpr bool is_float_dtype(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

// Null for a number that ggml never used or has removed, and for one below 0.
const DTypeInfo* dtype_info(int32_t ggml_type);
const DTypeInfo& dtype_info(DType type);
uint64_t row_bytes(DType type, int64_t n_elements);  // n_elements is a whole number of blocks

}  // namespace fovea::kernels
