#include "fovea/formats/weight_scan.h"

#include <cstring>

namespace fovea::formats {
namespace {

// Where in a block its half-float scales lie; -1 = there is no second one.
struct Scales {
  int first = -1, second = -1;
};
Scales scales_of(kernels::DType type) {
  using kernels::DType;
  switch (type) {
    case DType::kQ4_0:
    case DType::kQ5_0:
    case DType::kQ8_0:
    case DType::kIQ4_NL:
    case DType::kIQ4_XS:
    case DType::kIQ2_XXS:
    case DType::kIQ2_XS:
    case DType::kIQ2_S:
    case DType::kIQ3_XXS:
    case DType::kIQ3_S:
    case DType::kIQ1_S: return {0, -1};
    case DType::kQ2_K: return {80, 82};
    case DType::kQ3_K: return {108, -1};
    case DType::kTQ1_0: return {52, -1};
    case DType::kTQ2_0: return {64, -1};
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K: return {0, 2};
    case DType::kQ6_K: return {208, -1};
    default: return {};
  }
}

template <typename T>
T value_at(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

// All exponent bits set = Inf or NaN.
bool bad_half(const std::byte* at) { return (value_at<uint16_t>(at) & 0x7C00) == 0x7C00; }

// `bad` says of an element at a pointer whether it is not finite.
template <typename Bad>
uint64_t count_each(std::span<const std::byte> data, size_t step, Bad bad) {
  uint64_t n = 0;
  for (size_t at = 0; at + step <= data.size(); at += step) n += bad(data.data() + at);
  return n;
}

}  // namespace

uint64_t count_non_finite(const TensorInfo& tensor) {
  using kernels::DType;
  switch (tensor.dtype) {
    case DType::kF32:
      return count_each(tensor.data, 4,
                        [](const std::byte* p) { return (value_at<uint32_t>(p) & 0x7F800000) == 0x7F800000; });
    case DType::kF16: return count_each(tensor.data, 2, bad_half);
    case DType::kBF16:
      return count_each(tensor.data, 2, [](const std::byte* p) { return (value_at<uint16_t>(p) & 0x7F80) == 0x7F80; });
    case DType::kF8_E4M3:
      return count_each(tensor.data, 1, [](const std::byte* p) { return (value_at<uint8_t>(p) & 0x7F) == 0x7F; });
    case DType::kF8_E5M2:
      return count_each(tensor.data, 1, [](const std::byte* p) { return (value_at<uint8_t>(p) & 0x7C) == 0x7C; });
    case DType::kF64:
      return count_each(tensor.data, 8, [](const std::byte* p) {
        return (value_at<uint64_t>(p) & 0x7FF0'0000'0000'0000) == 0x7FF0'0000'0000'0000;
      });
    case DType::kIQ1_M:  // the exponent of its half float: the top nibble of word 3 and one bit of word 2's
      return count_each(tensor.data, 56, [](const std::byte* block) {
        return (value_at<uint16_t>(block + 54) & 0x7000) == 0x7000 &&
               (value_at<uint16_t>(block + 52) & 0xC000) == 0xC000;
      });
    case DType::kMXFP4:  // the exponent that stands for no number
      return count_each(tensor.data, 17, [](const std::byte* block) { return *block == std::byte{0xFF}; });
    case DType::kNVFP4:
      return count_each(tensor.data, 36, [](const std::byte* block) {
        for (int i = 0; i < 4; ++i) {
          if ((block[i] & std::byte{0x7F}) == std::byte{0x7F}) return true;
        }
        return false;
      });
    default: break;
  }
  const Scales scales = scales_of(tensor.dtype);
  if (scales.first < 0) return 0;
  const auto step = static_cast<size_t>(kernels::dtype_info(tensor.dtype).block_bytes);
  return count_each(tensor.data, step, [scales](const std::byte* block) {
    return bad_half(block + scales.first) || (scales.second >= 0 && bad_half(block + scales.second));
  });
}

}  // namespace fovea::formats
