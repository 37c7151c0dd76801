// A product of activations with a random weight, with everything it needs, and its check against plain loops over the
// dequantised weight and, where the weight is quantised, the quantised activations.
#pragma once

#include <fmt/core.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/kernels/matmul.h"
#include "fovea/kernels/testing/tame_scales.h"

namespace fovea::bench {

using kernels::DType;

inline constexpr std::align_val_t kHugePage{size_t{2} << 20};  // as the engine keeps its weights
struct Freed {
  void operator()(std::byte* p) const { ::operator delete(p, kHugePage); }
};
using Bytes = std::unique_ptr<std::byte, Freed>;
inline Bytes allocate(size_t n) {
  n = (n + (size_t{2} << 20) - 1) >> 21 << 21;
  auto* p = static_cast<std::byte*>(::operator new(n, kHugePage));
  (void)madvise(p, n, MADV_HUGEPAGE);  // advice only
  std::memset(p, 0, n);
  return Bytes(p);
}

// Random blocks of a dtype; the halves that serve as scales are small numbers.
inline Bytes random_weight(DType dtype, int64_t rows, int64_t cols) {
  const size_t stride = kernels::row_bytes(dtype, cols), bytes = stride * static_cast<size_t>(rows);
  Bytes w = allocate(bytes);
  Rng rng(7);
  auto* p = reinterpret_cast<uint8_t*>(w.get());
  if (kernels::is_float_dtype(dtype)) {  // 1 to 2, of either sign
    for (size_t i = 0; i < bytes; i += stride / static_cast<size_t>(cols)) {
      const uint64_t bits = rng.next();
      const auto sign = static_cast<uint32_t>(bits >> 63) << 31, fraction = static_cast<uint32_t>(bits & 0x7fffffu);
      const uint32_t single = sign | 0x3f800000u | fraction;
      const auto half = static_cast<uint16_t>(sign >> 16 | 0x3c00u | fraction >> 13);
      const auto bf16 = static_cast<uint16_t>(single >> 16);
      if (dtype == DType::kF32) std::memcpy(p + i, &single, 4);
      if (dtype == DType::kF16) std::memcpy(p + i, &half, 2);
      if (dtype == DType::kBF16) std::memcpy(p + i, &bf16, 2);
    }
    return w;
  }
  for (size_t i = 0; i < bytes; i += 8) {
    const uint64_t eight = rng.next();
    std::memcpy(p + i, &eight, std::min<size_t>(8, bytes - i));
  }
  kernels::tame_scales(dtype, p, bytes);
  return w;
}

// A product with everything it needs.
class Product {
 public:
  Product(DType dtype, int64_t rows, int64_t cols, int64_t n_tokens)
      : weight_(random_weight(dtype, rows, cols)),
        x_(static_cast<size_t>(n_tokens * cols)),
        y_(static_cast<size_t>(n_tokens * rows)) {
    args_.w = {dtype, rows, cols, weight_.get()};
    packed_ = allocate(kernels::packed_bytes(args_.w, args_.numerics));
    pack();
    Rng rng(3);
    for (float& x : x_) x = static_cast<float>(rng.normal());
    quantized_ = allocate(kernels::quantized_bytes(n_tokens, cols, form()));
    scratch_ = allocate(kernels::matmul_scratch_bytes(args_.w));
    args_.packed = packed_.get();
    args_.x = x_.data();
    args_.ld_x = cols;
    args_.quantized = quantized_.get();
    args_.n_tokens = args_.token_end = n_tokens;
    args_.y = y_.data();
    args_.ld_y = args_.row_end = rows;
    args_.scratch = scratch_.get();
    quantize();
  }
  void quantize() {
    const int64_t n = args_.n_tokens, cols = args_.w.cols;
    const bool wide = form() == kernels::WeightForm::kInt16;
    const auto& fill = wide ? kernels::quantize_columns16 : kernels::quantize_columns;
    if (kernels::takes_codes(form())) fill(x_.data(), cols, n, cols, 0, n, 0, cols, quantized_.get());
  }
  // All rows, or some panels of them: of a weight larger than any cache, to see it read from memory.
  void pack() const { pack(0, args_.w.rows); }
  void pack(int64_t row_begin, int64_t row_end) const {
    kernels::pack_weights(args_.w, args_.numerics, row_begin / kernels::kPanelRows,
                          (row_end + kernels::kPanelRows - 1) / kernels::kPanelRows, packed_.get());
  }
  void run() const { kernels::matmul(args_); }
  void run(int64_t row_begin, int64_t row_end) const {
    kernels::MatmulArgs part = args_;
    part.row_begin = row_begin, part.row_end = row_end;
    kernels::matmul(part);
  }
  kernels::WeightForm form() const { return kernels::form_of(args_.w.dtype, args_.w.cols, args_.numerics); }
  double operations() const { return 2.0 * static_cast<double>(args_.w.rows * args_.w.cols * args_.n_tokens); }
  size_t file_bytes() const {
    return kernels::row_bytes(args_.w.dtype, args_.w.cols) * static_cast<size_t>(args_.w.rows);
  }
  size_t bytes() const { return kernels::packed_bytes(args_.w, args_.numerics); }

  bool is_right() {
    quantize();
    run();
    const int64_t rows = args_.w.rows, cols = args_.w.cols;
    std::vector<float> w(static_cast<size_t>(cols));
    double worst = 0;
    for (int64_t r = 0; r < rows; ++r) {
      kernels::dequantize(
          args_.w.dtype,
          reinterpret_cast<uint8_t*>(weight_.get()) + static_cast<size_t>(r) * kernels::row_bytes(args_.w.dtype, cols),
          cols, w.data());
      for (int64_t t = 0; t < args_.n_tokens; ++t) {
        double sum = 0, size = 1e-6;
        for (int64_t c = 0; c < cols; ++c) {
          const double v = double{w[static_cast<size_t>(c)]} * rounded(t, c);
          sum += v, size += std::abs(v);
        }
        worst = std::max(worst, std::abs(double{y_[static_cast<size_t>(t * rows + r)]} - sum) / size);
      }
    }
    // Float sums of up to cols / 32 * 2 terms (cols, of float weights): 2^-24 each. Of int16 codes their rounding.
    if (worst < (form() == kernels::WeightForm::kInt16 ? 1e-4 : 1e-6)) return true;
    fmt::print(stderr, "{}: off by {} of the sum of magnitudes\n", kernels::dtype_info(args_.w.dtype).name, worst);
    return false;
  }

 private:
  double rounded(int64_t t, int64_t c) const {  // x as the int8 form says it, from its documented rule
    if (kernels::is_float_dtype(args_.w.dtype)) return x_[static_cast<size_t>(t * args_.w.cols + c)];
    const float* block = x_.data() + t * args_.w.cols + c / 32 * 32;
    float most = 0;
    for (int i = 0; i < 32; ++i) most = std::max(most, std::abs(block[i]));
    double rq = 0, qq = 0;
    for (int i = 0; i < 32; ++i) {
      const double q = std::nearbyint(block[i] * (127.0f / most));
      rq += double{block[i] * (127.0f / most)} * q, qq += q * q;
    }
    return std::nearbyint(block[c % 32] * (127.0f / most)) * double{most * (1.0f / 127.0f)} * (rq / qq);
  }

  Bytes weight_, packed_, quantized_, scratch_;
  std::vector<float> x_, y_;
  kernels::MatmulArgs args_;
};

// The last two stand for the types with a wide form (kernels/pack.h).
inline constexpr DType kDTypes[] = {DType::kQ4_0,   DType::kQ4_1,   DType::kQ5_0,  DType::kQ5_1,  DType::kQ8_0,
                                    DType::kQ4_K,   DType::kQ5_K,   DType::kQ6_K,  DType::kQ2_K,  DType::kQ3_K,
                                    DType::kIQ4_NL, DType::kIQ4_XS, DType::kMXFP4, DType::kIQ3_S, DType::kIQ2_XS};
inline constexpr DType kFloatTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

}  // namespace fovea::bench
