#include "fovea/formats/hf_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/formats/weight_scan.h"
#include "fovea/kernels/matmul.h"

namespace fovea::formats {
namespace {

using Json = nlohmann::ordered_json;
using kernels::DType;

constexpr std::string_view kMethods[] = {"fp8", "fbgemm_fp8", "mxfp4"};
constexpr int64_t kMxElements = 32, kMxBytes = 16;  // of a block, without its scale

bool is_f8(DType type) { return type == DType::kF8_E4M3 || type == DType::kF8_E5M2; }

// Micikevicius et al., "FP8 formats for deep learning", arXiv:2209.05433. E4M3 has no infinities and one NaN.
float f8_value(DType type, unsigned code) {
  const int mantissa_bits = type == DType::kF8_E4M3 ? 3 : 2, bias = type == DType::kF8_E4M3 ? 7 : 15;
  const unsigned magnitude = code & 0x7Fu, mantissa = magnitude & ((1u << mantissa_bits) - 1);
  const int exponent = static_cast<int>(magnitude >> mantissa_bits);
  const float sign = code & 0x80u ? -1.0f : 1.0f;
  if (type == DType::kF8_E4M3 ? magnitude == 0x7Fu : magnitude > 0x7Cu) return std::numeric_limits<float>::quiet_NaN();
  if (type == DType::kF8_E5M2 && magnitude == 0x7Cu) return sign * std::numeric_limits<float>::infinity();
  const unsigned whole = exponent == 0 ? mantissa : mantissa | (1u << mantissa_bits);
  return sign * std::ldexp(static_cast<float>(whole), std::max(exponent, 1) - bias - mantissa_bits);
}
std::array<float, 256> f8_table(DType type) {
  std::array<float, 256> table;
  for (unsigned code = 0; code < 256; ++code) table[code] = f8_value(type, code);
  return table;
}

bool is_power_of_two(float x) {
  int exponent = 0;
  return x > 0 && std::isfinite(x) && std::frexp(x, &exponent) == 0.5f && exponent > -100 && exponent < 100;
}

int64_t rows_of(const TensorInfo& t) {
  int64_t rows = 1;
  for (size_t i = 1; i < t.dims.size(); ++i) rows *= t.dims[i];
  return rows;
}

// The bytes of a kernel's float type, as floats; the tensor may lie at any address.
std::vector<float> floats(const TensorInfo& t) {
  const std::vector<std::byte> aligned(t.data.begin(), t.data.end());
  std::vector<float> out(t.data.size() / static_cast<size_t>(kernels::dtype_info(t.dtype).block_bytes));
  kernels::dequantize(t.dtype, aligned.data(), static_cast<int64_t>(out.size()), out.data());
  return out;
}

template <typename T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> out(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(out.data(), values.data(), out.size());
  return out;
}

uint16_t bf16_exactly(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return static_cast<uint16_t>(bits >> 16);
}

Made from_f8(const TensorInfo& t, const std::vector<float>& scales, int64_t block_rows, int64_t block_cols) {
  const std::array<float, 256> table = f8_table(t.dtype);
  const bool exact = std::all_of(scales.begin(), scales.end(), is_power_of_two);
  const int64_t cols = t.dims[0], rows = cols == 0 ? 0 : rows_of(t);
  const int64_t per_row = block_cols == 0 ? 1 : (cols + block_cols - 1) / block_cols;
  std::vector<float> row(static_cast<size_t>(cols));
  Made out{exact ? DType::kBF16 : DType::kF32, {}};
  const size_t width = exact ? sizeof(uint16_t) : sizeof(float);
  out.bytes.resize(static_cast<size_t>(rows * cols) * width);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      const auto code = static_cast<uint8_t>(t.data[static_cast<size_t>(r * cols + c)]);
      const float scale = scales.empty() ? 1 : scales[static_cast<size_t>(r / block_rows * per_row + c / block_cols)];
      const float value = table[code] * scale;
      std::byte* at = out.bytes.data() + static_cast<size_t>(r * cols + c) * width;
      if (exact) {
        const uint16_t half = bf16_exactly(value);
        std::memcpy(at, &half, sizeof(half));
      } else {
        std::memcpy(at, &value, sizeof(value));
      }
    }
  }
  return out;
}

Made from_f64(const TensorInfo& t) {
  std::vector<float> out(t.data.size() / sizeof(double));
  for (size_t i = 0; i < out.size(); ++i) {
    double value;
    std::memcpy(&value, t.data.data() + i * sizeof(double), sizeof(value));
    out[i] = static_cast<float>(value);
  }
  return {DType::kF32, bytes_of(out)};
}

// There neighbours share a byte, the first in its low half; GGUF's block has its scale first, then elements i and
// i + 16 in byte i. The exponent of a scale and the sixteen values are the same.
Made from_mxfp4(std::span<const std::byte> codes, const TensorInfo& scales) {
  Made out{DType::kMXFP4, {}};
  const size_t blocks = scales.data.size();
  out.bytes.resize(blocks * (1 + kMxBytes));
  for (size_t b = 0; b < blocks; ++b) {
    std::byte* to = out.bytes.data() + b * (1 + kMxBytes);
    const std::byte* from = codes.data() + b * kMxBytes;
    const auto element = [from](size_t i) { return i % 2 == 0 ? from[i / 2] & std::byte{0x0F} : from[i / 2] >> 4; };
    to[0] = scales.data[b];
    for (size_t i = 0; i < kMxBytes; ++i) to[1 + i] = element(i) | element(i + kMxBytes) << 4;
  }
  return out;
}

}  // namespace

Result<HfWeights> HfWeights::pair(std::vector<TensorInfo>& tensors, const Json& config, const std::string& name) {
  HfWeights out;
  int64_t block_rows = 0, block_cols = 0;
  const auto it = config.find("quantization_config");
  if (it != config.end() && it->is_object()) {
    const auto method = it->find("quant_method");
    const std::string how = method != it->end() && method->is_string() ? method->get<std::string>() : "";
    const bool floats8 = how == "compressed-tensors" && it->contains("format") && (*it)["format"] == "float-quantized";
    if (!floats8 && std::find(std::begin(kMethods), std::end(kMethods), how) == std::end(kMethods))
      return Error{ErrorCode::kUnsupported,
                   fmt::format("{}: its weights are quantised with {}; {} are read", name,
                               how.empty() ? "a method without a name" : quote(how), fmt::join(kMethods, ", ")),
                   "quantization_config"};
    if (const auto block = it->find("weight_block_size"); block != it->end() && !block->is_null()) {
      const bool good =
          block->is_array() && block->size() == 2 && std::all_of(block->begin(), block->end(), [](const Json& n) {
            return n.is_number_integer() && n.get<int64_t>() > 0 && n.get<int64_t>() <= 1 << 20;
          });
      if (!good)
        return Error{ErrorCode::kData, fmt::format("{}: weight_block_size: two numbers from 1 on are needed", name),
                     "quantization_config"};
      block_rows = (*block)[0].get<int64_t>(), block_cols = (*block)[1].get<int64_t>();
    }
  } else if (it != config.end() && !it->is_null()) {
    return Error{ErrorCode::kData, fmt::format("{}: quantization_config is no object", name), "quantization_config"};
  }

  std::map<std::string, size_t, std::less<>> index;
  for (size_t i = 0; i < tensors.size(); ++i) index.emplace(tensors[i].name, i);
  std::vector<bool> gone(tensors.size());
  const auto misfit = [&](const TensorInfo& scale, const TensorInfo& of) {
    return Error{ErrorCode::kData,
                 fmt::format("{}: tensor {} is {} [{}], which are no scales of {} [{}]", name, scale.name,
                             kernels::dtype_info(scale.dtype).name, fmt::join(scale.dims, ", "), of.name,
                             fmt::join(of.dims, ", ")),
                 "tensor " + scale.name};
  };
  for (TensorInfo& t : tensors) {
    if (is_f8(t.dtype) && t.name.ends_with("weight")) {
      for (const char* tail : {"_scale_inv", "_scale"}) {
        const auto found = index.find(t.name + tail);
        if (found == index.end()) continue;
        const TensorInfo& scale = tensors[found->second];
        const int64_t cols = t.dims[0], rows = rows_of(t), n = rows_of(scale) * scale.dims[0];
        Scales s{scale, {}, rows, cols};
        if (n == rows && n != 1 && (scale.dims.size() == 1 || scale.dims[0] == 1)) {
          s.block_rows = 1;
        } else if (n != 1) {
          s.block_rows = block_rows, s.block_cols = block_cols;
          const auto blocks = [](int64_t of, int64_t size) { return size == 0 ? 0 : (of + size - 1) / size; };
          if (scale.dims.size() != 2 || t.dims.size() != 2 || scale.dims[0] != blocks(cols, block_cols) ||
              scale.dims[1] != blocks(rows, block_rows))
            return misfit(scale, t);
        }
        if (!kernels::is_float_dtype(scale.dtype) || rows == 0 || cols == 0) return misfit(scale, t);
        out.scales_.emplace(t.name, std::move(s));
        gone[found->second] = true;
        break;
      }
      // Of the activations, which are not rounded here.
      for (const char* other : {"input_scale", "activation_scale", "input_scale_ub"}) {
        const auto found = index.find(t.name.substr(0, t.name.size() - 6) + other);
        if (found != index.end()) gone[found->second] = true;
      }
    } else if (t.dtype == DType::kU8 && t.name.ends_with("_blocks")) {
      const auto found = index.find(t.name.substr(0, t.name.size() - 7) + "_scales");
      if (found == index.end()) continue;
      const TensorInfo& scale = tensors[found->second];
      const std::vector<int64_t> blocks(t.dims.begin() + (t.dims.size() > 2 ? 1 : 0), t.dims.end());
      if (scale.dtype != DType::kU8 || t.dims.size() < 3 || t.dims[0] != kMxBytes || scale.dims != blocks ||
          t.dims[1] > std::numeric_limits<int64_t>::max() / kMxElements)
        return misfit(scale, t);
      out.scales_.emplace(t.name, Scales{scale, t.data, 0, 0});
      gone[found->second] = true;
      t.dims = blocks;
      t.dims[0] *= kMxElements;
      t.dtype = DType::kMXFP4;
      t.bytes += scale.bytes;
      t.data = {};  // until it is made
    }
  }
  size_t kept = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (gone[i]) continue;
    if (kept != i) tensors[kept] = std::move(tensors[i]);
    ++kept;
  }
  tensors.resize(kept);
  return out;
}

Result<std::optional<Made>> HfWeights::make(const TensorInfo& t) const {
  using Out = std::optional<Made>;
  const auto scales = scales_.find(t.name);
  const kernels::DTypeInfo& type = kernels::dtype_info(t.dtype);
  if (is_f8(t.dtype)) {
    if (scales == scales_.end()) return Out(from_f8(t, {}, 1, 1));
    const Scales& s = scales->second;
    return Out(from_f8(t, floats(s.tensor), s.block_rows, s.block_cols));
  }
  if (t.dtype == DType::kF64) return Out(from_f64(t));
  if (t.dtype == DType::kMXFP4 && scales != scales_.end())
    return Out(from_mxfp4(scales->second.blocks, scales->second.tensor));
  const auto address = reinterpret_cast<uintptr_t>(t.data.data());
  if (!type.native || address % static_cast<uintptr_t>(type.block_bytes) == 0) return Out();
  return Out({t.dtype, {t.data.begin(), t.data.end()}});
}

uint64_t HfWeights::count_bad_scales(const TensorInfo& t) const {
  const auto found = scales_.find(t.name);
  if (found == scales_.end()) return 0;
  const TensorInfo& scale = found->second.tensor;
  if (t.dtype != DType::kMXFP4) return count_non_finite(scale);
  return static_cast<uint64_t>(std::count(scale.data.begin(), scale.data.end(), std::byte{0xFF}));
}

}  // namespace fovea::formats
