// Speed of the products of activations with quantised weights, one thread: integer operations per second by
// dtype and number of tokens, and bytes of packed weights read per second where one token makes reading the limit.
// Every answer is compared first with plain loops over the dequantised weight and the quantised activations.
#include "fovea/kernels/matmul.h"

#include <fmt/core.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/kernels/peak.h"

namespace fovea {
namespace {

using namespace kernels;

constexpr std::align_val_t kHugePage{size_t{2} << 20};  // as the engine keeps its weights
struct Freed {
  void operator()(std::byte* p) const { ::operator delete(p, kHugePage); }
};
using Bytes = std::unique_ptr<std::byte, Freed>;
Bytes allocate(size_t n) {
  n = (n + (size_t{2} << 20) - 1) >> 21 << 21;
  auto* p = static_cast<std::byte*>(::operator new(n, kHugePage));
  (void)madvise(p, n, MADV_HUGEPAGE);  // advice only
  std::memset(p, 0, n);
  return Bytes(p);
}

// The least time of a call: other programs on the machine cut into most of them.
double best_of(int n, const std::function<void()>& body) {
  double best = 1e30;
  for (int i = 0; i < n; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

// Random blocks of a dtype; the halves that serve as scales are small numbers.
Bytes random_weight(DType dtype, int64_t rows, int64_t cols) {
  const size_t stride = row_bytes(dtype, cols), bytes = stride * static_cast<size_t>(rows);
  Bytes w = allocate(bytes);
  Rng rng(7);
  auto* p = reinterpret_cast<uint8_t*>(w.get());
  for (size_t i = 0; i < bytes; ++i) p[i] = static_cast<uint8_t>(rng.next());
  const size_t block =
      row_bytes(dtype, dtype == DType::kQ4_K || dtype == DType::kQ5_K || dtype == DType::kQ6_K ? 256 : 32);
  for (size_t at = 0; at < bytes; at += block) {
    const uint16_t scale = 0x2000, offset = 0xa400;  // 2^-7, -2^-6
    std::memcpy(p + at + (dtype == DType::kQ6_K ? block - 2 : 0), &scale, 2);
    if (dtype == DType::kQ4_1 || dtype == DType::kQ5_1 || dtype == DType::kQ4_K || dtype == DType::kQ5_K) {
      std::memcpy(p + at + 2, &offset, 2);
    }
  }
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
    packed_ = allocate(packed_bytes(args_.w));
    pack_weights(args_.w, 0, (rows + kPanelRows - 1) / kPanelRows, packed_.get());
    Rng rng(3);
    for (float& x : x_) x = static_cast<float>(rng.normal());
    quantized_ = allocate(quantized_bytes(n_tokens, cols));
    scratch_ = allocate(matmul_scratch_bytes(args_.w));
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
    quantize_activations(x_.data(), args_.w.cols, args_.n_tokens, args_.w.cols, 0, args_.n_tokens, quantized_.get());
  }
  void run() const { matmul(args_); }
  double operations() const { return 2.0 * static_cast<double>(args_.w.rows * args_.w.cols * args_.n_tokens); }
  size_t bytes() const { return packed_bytes(args_.w); }

  bool is_right() {
    quantize();
    run();
    const int64_t rows = args_.w.rows, cols = args_.w.cols;
    std::vector<float> w(static_cast<size_t>(cols));
    double worst = 0;
    for (int64_t r = 0; r < rows; ++r) {
      dequantize(args_.w.dtype,
                 reinterpret_cast<uint8_t*>(weight_.get()) + static_cast<size_t>(r) * row_bytes(args_.w.dtype, cols),
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
    // Float sums of up to cols / 32 * 2 terms: 2^-24 each.
    if (worst < 1e-6) return true;
    fmt::print(stderr, "{}: off by {} of the sum of magnitudes\n", dtype_info(args_.w.dtype).name, worst);
    return false;
  }

 private:
  double rounded(int64_t t, int64_t c) const {  // x as the int8 form says it, from its documented rule
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
  MatmulArgs args_;
};

constexpr DType kDTypes[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                             DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

bool report(Isa isa, bool quick) {
  set_isa(isa);
  constexpr int64_t kCols = 1536, kTestRows = 37, kTestCols = 512;
  for (const DType dtype : kDTypes) {
    for (const int64_t n : {1, 5, 13}) {
      if (!Product(dtype, kTestRows, kTestCols, n).is_right()) return false;
    }
  }
  if (quick) return true;
  const double peak = [] {
    double most = 0;
    for (int i = 0; i < 15; ++i) {
      int64_t done = 0;
      const double s = best_of(1, [&] { done = int8_peak(1 << 14); });
      most = std::max(most, static_cast<double>(done) / s * 1e-9);
    }
    return most;
  }();
  fmt::print("{}: int8 peak of one core {:.0f} GOP/s\n", kernels::name_of(isa), peak);
  fmt::print("  {:6}{:>16}{:>10}{:>10}{:>10}{:>10}{:>16}\n", "", "1 token GB/s", "4 GOP/s", "16", "64", "256",
             "share of peak");
  for (const DType dtype : kDTypes) {
    const Product one(dtype, 16384, kCols, 1);  // 12 to 25 MB: past the caches near the core
    const double read = static_cast<double>(one.bytes()) / best_of(15, [&] { one.run(); }) * 1e-9;
    std::string line = fmt::format("  {:6}{:16.1f}", dtype_info(dtype).name, read);
    double last = 0;
    for (const int64_t n : {4, 16, 64, 256}) {
      const Product many(dtype, 16 * 48, kCols, n);
      last = many.operations() / best_of(25, [&] { many.run(); }) * 1e-9;
      line += fmt::format("{:10.0f}", last);
    }
    fmt::print("{}{:15.0f}%\n", line, 100 * last / peak);
  }
  Product activations(DType::kQ8_0, 16, kCols, 256);
  const double s = best_of(25, [&] { activations.quantize(); });
  fmt::print("  activations to int8: {:.2f} G elements/s\n", 256.0 * kCols / s * 1e-9);
  return true;
}

}  // namespace
}  // namespace fovea

// bench_matmul [check]: `check` compares only.
int main(int argc, char** argv) {
  using fovea::kernels::Isa;
  const bool quick = argc > 1 && std::string(argv[1]) == "check";
  const Isa forced = fovea::kernels::active_isa();
  for (int i = fovea::kernels::kIsas - 1; i >= 0; --i) {
    const Isa isa = static_cast<Isa>(i);
    if (!fovea::kernels::machine_has(isa) || (std::getenv("FOVEA_ISA") && isa != forced)) continue;
    if (isa == Isa::kPortable && !quick && !std::getenv("FOVEA_ISA")) continue;
    if (!fovea::report(isa, quick)) return 1;
  }
  return 0;
}
