// Quantised products against plain loops in double over what the int8 form and the dequantised weight say.
#include "fovea/kernels/matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/kernels/pack.h"
#include "fovea/kernels/testing/tame_scales.h"

namespace fovea::kernels {
namespace matmul_test {

constexpr DType kDTypes[] = {DType::kQ4_0,   DType::kQ4_1,    DType::kQ5_0,   DType::kQ5_1,  DType::kQ8_0,
                             DType::kQ4_K,   DType::kQ5_K,    DType::kQ6_K,   DType::kQ2_K,  DType::kQ3_K,
                             DType::kIQ4_NL, DType::kIQ4_XS,  DType::kMXFP4,  DType::kNVFP4, DType::kTQ1_0,
                             DType::kTQ2_0,  DType::kIQ1_S,   DType::kIQ1_M,  DType::kIQ2_S, DType::kIQ2_XS,
                             DType::kIQ3_S,  DType::kIQ2_XXS, DType::kIQ3_XXS};

bool is_super(DType d) { return dtype_info(d).block_elements == 256; }

struct Freed {
  void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{64}); }
};
using Bytes = std::unique_ptr<std::byte, Freed>;
Bytes allocate(size_t n) {
  auto* p = static_cast<std::byte*>(::operator new (std::max<size_t>(n, 64), std::align_val_t{64}));
  std::memset(p, 0x55, std::max<size_t>(n, 64));
  return Bytes(p);
}

// `fill` < 0: random codes; else every byte of codes is `fill`. Scales are 2^-7, offsets -2^-6.
std::vector<uint8_t> weight_bytes(DType dtype, int64_t rows, int64_t cols, int fill) {
  std::vector<uint8_t> w(row_bytes(dtype, cols) * static_cast<size_t>(rows));
  Rng rng(7);
  for (uint8_t& b : w) b = static_cast<uint8_t>(fill < 0 ? rng.next() : static_cast<uint64_t>(fill));
  tame_scales(dtype, w.data(), w.size());
  return w;
}

struct Int8Form {
  std::vector<double> x;  // scale * q, [n_tokens][cols]
};

// The documented rule, in plain loops.
Int8Form int8_form(const std::vector<float>& x, int64_t cols) {
  Int8Form form;
  for (size_t i = 0; i < x.size(); ++i) {
    const float* block =
        x.data() + i / static_cast<size_t>(cols) * static_cast<size_t>(cols) + i % static_cast<size_t>(cols) / 32 * 32;
    float most = 0;
    for (int k = 0; k < 32; ++k) most = std::max(most, std::abs(block[k]));
    const float inverse = most > 1e-36f ? 127.0f / most : 0.0f;
    double rq = 0, qq = 0;
    for (int k = 0; k < 32; ++k) {
      const double q = std::nearbyint(block[k] * inverse);
      rq += double{block[k] * inverse} * q, qq += q * q;
    }
    form.x.push_back(std::nearbyint(x[i] * inverse) * double{most * (1.0f / 127.0f)} * (qq > 0 ? rq / qq : 1.0));
  }
  return form;
}

std::vector<float> product(DType dtype, const std::vector<uint8_t>& w, int64_t rows, int64_t cols,
                           const std::vector<float>& x, bool packs, int64_t per_call = 1 << 20) {
  const int64_t n = static_cast<int64_t>(x.size()) / cols;
  MatmulArgs args;
  args.w = {dtype, rows, cols, w.data()};
  const Bytes packed = allocate(packed_bytes(args.w, args.numerics)),
              quantized = allocate(quantized_bytes(n, cols, WeightForm::kInt8)),
              scratch = allocate(matmul_scratch_bytes(args.w));
  pack_weights(args.w, args.numerics, 0, (rows + kPanelRows - 1) / kPanelRows, packed.get());
  quantize_activations(x.data(), cols, n, cols, 0, n, quantized.get());
  std::vector<float> y(static_cast<size_t>(n * rows), -1.0f);
  args.packed = packs ? packed.get() : nullptr;
  args.x = x.data(), args.ld_x = cols, args.quantized = quantized.get(), args.n_tokens = n;
  args.y = y.data(), args.ld_y = args.row_end = rows, args.scratch = scratch.get();
  for (int64_t t = 0; t < n; t += per_call) {
    args.token_begin = t, args.token_end = std::min(n, t + per_call);
    matmul(args);
  }
  return y;
}

// The largest error as a share of the sum of magnitudes.
double worst_error(DType dtype, const std::vector<uint8_t>& w, int64_t rows, int64_t cols, const std::vector<float>& x,
                   const std::vector<float>& y) {
  const Int8Form form = int8_form(x, cols);
  const auto n = static_cast<int64_t>(x.size()) / cols;
  std::vector<float> row(static_cast<size_t>(cols));
  double worst = 0;
  for (int64_t r = 0; r < rows; ++r) {
    dequantize(dtype, w.data() + static_cast<size_t>(r) * row_bytes(dtype, cols), cols, row.data());
    for (int64_t t = 0; t < n; ++t) {
      double sum = 0, size = 1e-9;
      for (int64_t c = 0; c < cols; ++c) {
        const double v = double{row[static_cast<size_t>(c)]} * form.x[static_cast<size_t>(t * cols + c)];
        sum += v, size += std::abs(v);
      }
      worst = std::max(worst, std::abs(double{y[static_cast<size_t>(t * rows + r)]} - sum) / size);
    }
  }
  return worst;
}

std::vector<float> random_x(int64_t n) {
  Rng rng(3);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = static_cast<float>(rng.normal());
  return x;
}

// Every test runs on each instruction set that this machine has.
class QuantisedMatmul : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!machine_has(GetParam())) GTEST_SKIP() << "this machine lacks " << name_of(GetParam());
    before_ = active_isa();
    set_isa(GetParam());
    ASSERT_EQ(matmul.used(), GetParam());
    ASSERT_EQ(quantize_activations.used(), GetParam());
  }
  void TearDown() override { set_isa(before_); }

 private:
  Isa before_ = active_isa();
};

// A float sum of at most 2 * 3 terms per block: 1e-6 of the magnitudes is 16 roundings.
constexpr double kTolerance = 1e-6;

// Rows that fill no panel, tokens around those that a tile takes.
TEST_P(QuantisedMatmul, AGateAndAResidualGiveTheBitsOfTheirStepsAlone) {
  constexpr int64_t kCols = 256, kRows = 40;
  for (const DType dtype : kDTypes) {
    const std::vector<uint8_t> w = weight_bytes(dtype, 2 * kRows, kCols, -1);
    const std::vector<float> bias = random_x(2 * kRows);
    for (const int64_t n : {1, 9, 17}) {
      const std::vector<float> x = random_x(n * kCols), residual = random_x(n * kRows);
      const auto args_of = [&](int64_t first, std::vector<float>& y) {
        y.assign(static_cast<size_t>(n * kRows), -1.0f);
        MatmulArgs args;
        args.w = {dtype, kRows, kCols, w.data() + static_cast<size_t>(first) * row_bytes(dtype, kCols)};
        args.x = x.data(), args.ld_x = kCols, args.n_tokens = args.token_end = n;
        args.bias = bias.data() + first;
        args.y = y.data(), args.ld_y = args.row_end = kRows;
        return args;
      };
      std::vector<float> y, up_y, gated, gated_up, added;
      MatmulArgs gate = args_of(0, y), up = args_of(kRows, up_y);
      const Bytes quantized = allocate(quantized_bytes(n, kCols, WeightForm::kInt8)),
                  scratch = allocate(matmul_scratch_bytes(gate.w));
      quantize_activations(x.data(), kCols, n, kCols, 0, n, quantized.get());
      const auto run = [&](MatmulArgs args) {
        args.quantized = quantized.get(), args.scratch = scratch.get();
        matmul(args);
      };
      run(gate), run(up);
      MatmulArgs second = args_of(kRows, gated_up), both = args_of(0, gated), plus = args_of(0, added);
      second.quantized = quantized.get();
      both.up = &second;
      run(both);
      plus.residual = residual.data(), plus.factor = 0.3f;
      run(plus);
      for (size_t i = 0; i < y.size(); ++i) {
        float of_gate, scaled = 0.3f * y[i];
        activate_gate(Activation::kSilu, &y[i], &up_y[i], 1, &of_gate);
        ASSERT_EQ(gated[i], of_gate) << dtype_info(dtype).name << " " << n << " tokens, " << i;
        ASSERT_EQ(added[i], residual[i] + scaled) << dtype_info(dtype).name << " " << n << " tokens, " << i;
      }
    }
  }
}

TEST_P(QuantisedMatmul, AFormAndTheFormOfItsRestHoldSixteenBitsOfX) {
  constexpr int64_t kTokens = 3, kCols = 96, kRow = 128;  // codes of a token are padded to 64
  std::vector<float> x = random_x(kTokens * kCols);
  x[5] = 1000.0f;  // its block keeps little of the others
  x[kCols] = std::numeric_limits<float>::infinity();
  const Bytes first = allocate(quantized_bytes(kTokens, kCols, WeightForm::kInt8)),
              rest = allocate(quantized_bytes(kTokens, kCols, WeightForm::kInt8));
  quantize_activations(x.data(), kCols, kTokens, kCols, 0, kTokens, first.get());
  quantize_rest(x.data(), kCols, kTokens, kCols, 0, kTokens, first.get(), rest.get());
  const auto value = [](const Bytes& form, int64_t token, int64_t col) {
    const auto* codes = reinterpret_cast<const int8_t*>(form.get());
    const auto* meta = reinterpret_cast<const BlockMeta*>(codes + kTokens * kRow);
    return meta[token * (kCols / 32) + col / 32].scale * static_cast<float>(codes[token * kRow + col]);
  };
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t c = 0; c < kCols; ++c) {
      const float both = value(first, t, c) + value(rest, t, c);
      if (t == 1 && c < 32) {
        EXPECT_TRUE(std::isnan(both)) << c;
        continue;
      }
      float most = 0;
      for (int64_t i = c / 32 * 32; i < c / 32 * 32 + 32; ++i)
        most = std::max(most, std::abs(x[static_cast<size_t>(t * kCols + i)]));
      EXPECT_NEAR(both, x[static_cast<size_t>(t * kCols + c)], most / (127 * 254)) << t << " " << c;
    }
  }
}

TEST_P(QuantisedMatmul, AFormHasTheSameBitsInOnePieceAndBlockByBlock) {
  for (int64_t cols = 32; cols <= 11 * 32; cols += 32) {
    constexpr int64_t kTokens = 3;
    std::vector<float> x = random_x(kTokens * cols);
    for (int64_t i = 0; i < cols; ++i) x[static_cast<size_t>(i)] *= std::exp2(static_cast<float>(i / 32 * 20 - 100));
    std::fill_n(x.begin() + cols + cols / 32 / 2 * 32, 32, 0.0f);
    x[static_cast<size_t>(2 * cols + cols / 2)] = std::numeric_limits<float>::quiet_NaN();
    const size_t bytes = quantized_bytes(kTokens, cols, WeightForm::kInt8);
    const Bytes whole = allocate(bytes), parts = allocate(bytes), rest = allocate(bytes), rest_parts = allocate(bytes);
    quantize_activations(x.data(), cols, kTokens, cols, 0, kTokens, whole.get());
    quantize_rest(x.data(), cols, kTokens, cols, 0, kTokens, whole.get(), rest.get());
    for (int64_t c = 0; c < cols; c += 32)
      quantize_columns(x.data(), cols, kTokens, cols, 0, kTokens, c, c + 32, parts.get());
    EXPECT_EQ(std::memcmp(whole.get(), parts.get(), bytes), 0) << cols;
    // The rest, from its definition.
    const int64_t ld = (cols + 63) / 64 * 64;
    const auto* codes = reinterpret_cast<const int8_t*>(whole.get());
    const auto* meta = reinterpret_cast<const BlockMeta*>(codes + kTokens * ld);
    std::vector<float> left(x.size());
    for (int64_t i = 0; i < kTokens * cols; ++i) {
      const float known =
          meta[i / 32].scale * static_cast<float>(codes[i / cols * ld + i % cols]);  // cols is whole blocks
      left[static_cast<size_t>(i)] = x[static_cast<size_t>(i)] - known;
    }
    for (int64_t c = 0; c < cols; c += 32)
      quantize_columns(left.data(), cols, kTokens, cols, 0, kTokens, c, c + 32, rest_parts.get());
    EXPECT_EQ(std::memcmp(rest.get(), rest_parts.get(), bytes), 0) << cols;
  }
}

TEST_P(QuantisedMatmul, IsTheProductOfTheCodesAtEveryNumberOfTokensAndRows) {
  for (const DType dtype : kDTypes) {
    const int64_t cols = is_super(dtype) ? 512 : dtype == DType::kNVFP4 ? 192 : 96;
    for (const int64_t rows : {1, 15, 16, 33}) {
      const auto w = weight_bytes(dtype, rows, cols, -1);
      for (const int64_t n : {1, 2, 3, 4, 5, 11, 12, 13, 25}) {
        const auto x = random_x(n * cols);
        EXPECT_LT(worst_error(dtype, w, rows, cols, x, product(dtype, w, rows, cols, x, true)), kTolerance)
            << dtype_info(dtype).name << ", " << rows << " rows, " << n << " tokens";
      }
    }
  }
}

TEST_P(QuantisedMatmul, IsExactWhereEveryCodeIsExtreme) {
  for (const DType dtype : kDTypes) {
    const int64_t rows = 16, cols = 256;
    for (const int fill : {0x00, 0x7f, 0x80, 0xff}) {
      const auto w = weight_bytes(dtype, rows, cols, fill);
      for (const float sign : {1.0f, -1.0f}) {  // 16-bit sums of pairs would saturate first here
        const std::vector<float> x(static_cast<size_t>(6 * cols), 127.0f * sign);
        for (const int64_t per_call : {1, 6}) {
          EXPECT_LT(worst_error(dtype, w, rows, cols, x, product(dtype, w, rows, cols, x, true, per_call)), kTolerance)
              << dtype_info(dtype).name << " filled with " << fill << " times " << 127 * sign;
        }
      }
    }
  }
}

TEST_P(QuantisedMatmul, GivesTheSameBitsPackedOrNotAndInAnyBatch) {
  for (const DType dtype : kDTypes) {
    const int64_t rows = 21, cols = 256, n = 27;
    const auto w = weight_bytes(dtype, rows, cols, -1);
    const auto x = random_x(n * cols);
    const auto want = product(dtype, w, rows, cols, x, true, 1);
    for (const int64_t per_call : {2, 3, 4, 5, 7, 12, 13, 27}) {
      EXPECT_EQ(product(dtype, w, rows, cols, x, true, per_call), want) << dtype_info(dtype).name << " by " << per_call;
      EXPECT_EQ(product(dtype, w, rows, cols, x, false, per_call), want)
          << dtype_info(dtype).name << " by " << per_call;
    }
  }
}

TEST_P(QuantisedMatmul, AnActivationThatIsNoNumberReachesTheResultOfItsTokenOnly) {
  const int64_t rows = 5, cols = 64;
  const auto w = weight_bytes(DType::kQ8_0, rows, cols, -1);
  for (const float odd :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), std::nanf("")}) {
    for (const int64_t at : {0, 31, 37, 63}) {
      auto x = random_x(3 * cols);
      x[static_cast<size_t>(cols + at)] = odd;
      const auto y = product(DType::kQ8_0, w, rows, cols, x, true);
      for (int64_t t = 0; t < 3; ++t) {
        for (int64_t r = 0; r < rows; ++r)
          EXPECT_EQ(std::isnan(y[static_cast<size_t>(t * rows + r)]), t == 1) << odd << " at " << at;
      }
    }
  }
}

TEST_P(QuantisedMatmul, TinyAndHugeActivationsKeepTheirSize) {
  const int64_t rows = 16, cols = 64;
  const auto w = weight_bytes(DType::kQ4_1, rows, cols, -1);
  for (const float size : {0.0f, 1e-40f, 1e-37f, 1e-30f, 1e30f}) {
    auto x = random_x(2 * cols);
    for (float& v : x) v *= size;
    const auto y = product(DType::kQ4_1, w, rows, cols, x, true);
    if (size > 1e-36f) {
      EXPECT_LT(worst_error(DType::kQ4_1, w, rows, cols, x, y), kTolerance) << size;
    } else {  // too small for a factor: zeros, or within a block's scale of zero
      for (const float v : y) EXPECT_LT(std::abs(v), 1e-34f) << size;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryIsa, QuantisedMatmul, ::testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace matmul_test
}  // namespace fovea::kernels
