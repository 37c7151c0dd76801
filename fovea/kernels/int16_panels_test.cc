// Float weights as int16 codes, against the rule of int16_panels.h in plain loops: the same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/kernels/activations.h"
#include "fovea/kernels/matmul.h"
#include "fovea/kernels/quantize_weights.h"

namespace fovea::kernels {
namespace int16_panels_test {

struct Freed {
  void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{64}); }
};
std::unique_ptr<std::byte, Freed> allocate(size_t n) {
  return std::unique_ptr<std::byte, Freed>(static_cast<std::byte*>(::operator new (n + 64, std::align_val_t{64})));
}

std::vector<float> normals(int64_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = static_cast<float>(rng.normal());
  return x;
}

uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

// A weight [rows, cols] of random normals in its type, and the same as floats.
struct Case {
  Case(DType dtype, int64_t rows, int64_t cols, std::vector<float> from)
      : view{dtype, rows, cols, nullptr}, values(from), bytes(row_bytes(dtype, rows * cols)) {
    for (size_t i = 0; i < from.size(); ++i) {
      if (dtype == DType::kF32) {
        std::memcpy(bytes.data() + 4 * i, &from[i], 4);
        continue;
      }
      uint16_t half = static_cast<uint16_t>(bits_of(from[i]) >> 16);  // cut, and of F16 any number that it has
      if (dtype == DType::kF16 && std::isfinite(from[i]))
        half = static_cast<uint16_t>((half & 0x8000u) | (half & 0x3fffu));
      if (dtype == DType::kF16 && !std::isfinite(from[i])) half = 0x7c00;
      std::memcpy(bytes.data() + 2 * i, &half, 2);
    }
    view.data = bytes.data();
    dequantize(dtype, bytes.data(), rows * cols, values.data());
  }
  WeightView view;
  std::vector<float> values;
  std::vector<uint8_t> bytes;
};

// Codes and scale of 64 numbers.
struct Block {
  Block(const float* x, int most_code, bool is_weight) {
    float most = 0;
    for (int i = 0; i < 64; ++i) most = std::isfinite(x[i]) ? std::max(most, std::abs(x[i])) : INFINITY;
    scale = std::isfinite(most) ? most * (1.0f / static_cast<float>(most_code)) : NAN;
    if (is_weight && std::isfinite(scale)) scale = float_of((bits_of(scale) + 0xffffu) & 0xffff0000u);
    if (scale <= 1e-30f) scale = 0;
    for (int i = 0; i < 64; ++i) {
      const float by = scale > 0 ? 1.0f / scale : 0.0f;
      const float limit = static_cast<float>(most_code);
      codes[i] = scale > 0 ? static_cast<int64_t>(std::nearbyint(std::clamp(x[i] * by, -limit, limit))) : 0;
    }
  }
  int64_t codes[64];
  float scale;
};

std::vector<float> reference(const Case& c, const std::vector<float>& x) {
  const int64_t cols = c.view.cols, n = static_cast<int64_t>(x.size()) / cols;
  std::vector<float> y(static_cast<size_t>(n * c.view.rows));
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t r = 0; r < c.view.rows; ++r) {
      float acc = 0;
      for (int64_t b = 0; b < cols; b += 64) {
        const Block w(c.values.data() + r * cols + b, 4095, true), a(x.data() + t * cols + b, 8191, false);
        int64_t dot = 0;
        for (int i = 0; i < 64; ++i) dot += w.codes[i] * a.codes[i];
        acc = std::fma(static_cast<float>(dot), w.scale * a.scale, acc);
      }
      y[static_cast<size_t>(t * c.view.rows + r)] = acc;
    }
  }
  return y;
}

struct Call {
  Call(const Case& c, const std::vector<float>& x, bool packs)
      : n(static_cast<int64_t>(x.size()) / c.view.cols),
        packed(allocate(packed_bytes(c.view, Numerics::kFast))),
        codes(allocate(quantized_bytes(n, c.view.cols, WeightForm::kInt16))),
        scratch(allocate(matmul_scratch_bytes(c.view))),
        y(static_cast<size_t>(n * c.view.rows), -1.0f) {
    const int64_t cols = c.view.cols;
    pack_weights(c.view, Numerics::kFast, 0, (c.view.rows + kPanelRows - 1) / kPanelRows, packed.get());
    for (int64_t at = 0; at < cols; at += 64)
      quantize_columns16(x.data(), cols, n, cols, 0, n, at, at + 64, codes.get());
    args.w = c.view, args.packed = packs ? packed.get() : nullptr;
    args.x = x.data(), args.ld_x = cols, args.quantized = codes.get(), args.n_tokens = args.token_end = n;
    args.y = y.data(), args.ld_y = args.row_end = c.view.rows, args.scratch = scratch.get();
  }
  std::vector<float> product() {
    matmul(args);
    return y;
  }
  int64_t n;
  std::unique_ptr<std::byte, Freed> packed, codes, scratch;
  std::vector<float> y;
  MatmulArgs args;
};

class Int16Panels : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!machine_has(GetParam())) GTEST_SKIP() << "this machine lacks " << name_of(GetParam());
    before_ = active_isa();
    set_isa(GetParam());
    ASSERT_EQ(matmul.used(), GetParam());
    ASSERT_EQ(quantize_columns16.used(), GetParam());
  }
  void TearDown() override { set_isa(before_); }

 private:
  Isa before_ = active_isa();
};

TEST_P(Int16Panels, HaveTheBitsOfTheRuleAtEveryNumberOfRowsAndTokens) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    for (const int64_t rows : {1, 16, 17, 47, 64, 130}) {
      for (const int64_t cols : {64, 192}) {
        const Case c(dtype, rows, cols, normals(rows * cols, 1));
        for (const int64_t n : {1, 2, 3, 4, 5, 6, 7, 9, 12, 13}) {
          const std::vector<float> x = normals(n * cols, 2), expected = reference(c, x);
          EXPECT_EQ(Call(c, x, true).product(), expected) << rows << " " << cols << " " << n;
          EXPECT_EQ(Call(c, x, false).product(), expected) << rows << " " << cols << " " << n << ", on the fly";
        }
      }
    }
  }
}

TEST_P(Int16Panels, AreCloseToFloats) {
  constexpr int64_t kRows = 64, kCols = 512, kTokens = 8;
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    const Case c(dtype, kRows, kCols, normals(kRows * kCols, 1));
    const std::vector<float> x = normals(kTokens * kCols, 2), y = Call(c, x, true).product();
    double errors = 0, squares = 0;
    for (int64_t t = 0; t < kTokens; ++t) {
      for (int64_t r = 0; r < kRows; ++r) {
        double exact = 0;
        for (int64_t i = 0; i < kCols; ++i)
          exact += double{c.values[static_cast<size_t>(r * kCols + i)]} * x[static_cast<size_t>(t * kCols + i)];
        const double error = y[static_cast<size_t>(t * kRows + r)] - exact;
        errors += error * error, squares += exact * exact;
      }
    }
    EXPECT_LT(std::sqrt(errors / squares), 3e-4) << dtype_info(dtype).name;  // of bf16 dot products: 1.6e-3
  }
}

TEST_P(Int16Panels, HoldTheLargestSumAndCarryWhatIsNotFinite) {
  const auto big = [](int64_t n) { return std::vector<float>(static_cast<size_t>(n), 60000.0f); };
  const Case most(DType::kBF16, 16, 64, big(16 * 64));
  const std::vector<float> x = big(64);
  EXPECT_EQ(Call(most, x, true).product(), reference(most, x));
  for (const float odd : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> w = normals(32 * 128, 1), a = normals(2 * 128, 2);
    w[3 * 128 + 70] = odd;
    const auto of_weight = Call(Case(DType::kBF16, 32, 128, w), normals(2 * 128, 2), true).product();
    for (size_t i = 0; i < 64; ++i) EXPECT_EQ(std::isnan(of_weight[i]), i % 32 == 3) << i;
    a[128 + 5] = odd;
    const auto of_x = Call(Case(DType::kBF16, 32, 128, normals(32 * 128, 1)), a, true).product();
    for (size_t i = 0; i < 64; ++i) EXPECT_EQ(std::isnan(of_x[i]), i >= 32) << i;
  }
  const Case none(DType::kBF16, 16, 64, std::vector<float>(16 * 64, 1e-35f));
  EXPECT_EQ(Call(none, x, true).product(), std::vector<float>(16, 0.0f)) << "too small to have codes";
}

TEST_P(Int16Panels, AGateAndAResidualGiveTheBitsOfTheirStepsAlone) {
  constexpr int64_t kRows = 40, kCols = 128;
  const Case gate(DType::kF16, kRows, kCols, normals(kRows * kCols, 1));
  const Case up(DType::kF16, kRows, kCols, normals(kRows * kCols, 2));
  const std::vector<float> bias = normals(kRows, 3);
  for (const int64_t n : {1, 2, 9, 17}) {
    const std::vector<float> x = normals(n * kCols, 4), residual = normals(n * kRows, 5);
    Call first(gate, x, true), second(up, x, true), both(gate, x, true), beside(up, x, true), plus(gate, x, true);
    for (Call* call : {&first, &second, &both, &beside, &plus}) call->args.bias = bias.data();
    const std::vector<float> y = first.product(), y_up = second.product();
    both.args.up = &beside.args, beside.args.quantized = both.args.quantized;
    const std::vector<float> gated = both.product();
    plus.args.residual = residual.data(), plus.args.factor = 0.3f;
    const std::vector<float> added = plus.product();
    for (size_t i = 0; i < y.size(); ++i) {
      float of_gate;
      const float scaled = 0.3f * y[i];
      activate_gate(Activation::kSilu, &y[i], &y_up[i], 1, &of_gate);
      ASSERT_EQ(gated[i], of_gate) << n << " tokens, " << i;
      ASSERT_EQ(added[i], residual[i] + scaled) << n << " tokens, " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryIsa, Int16Panels, ::testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace int16_panels_test
}  // namespace fovea::kernels
