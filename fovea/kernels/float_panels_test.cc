// Packed float weights against the product from the file's own form: the same bits.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/kernels/matmul.h"

namespace fovea::kernels {
namespace float_panels_test {

struct Freed {
  void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{64}); }
};
std::unique_ptr<std::byte, Freed> allocate(size_t n) {
  return std::unique_ptr<std::byte, Freed>(static_cast<std::byte*>(::operator new (n + 64, std::align_val_t{64})));
}

// Finite numbers of about 1 in the type's own bits, at an odd address.
std::vector<uint8_t> weight_bytes(DType dtype, int64_t n) {
  Rng rng(1);
  std::vector<uint8_t> w(1 + static_cast<size_t>(n) * row_bytes(dtype, 1));
  for (int64_t i = 0; i < n; ++i) {
    const auto value = static_cast<float>(rng.normal());
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const auto bf16 = static_cast<uint16_t>(bits >> 16);
    const auto half = static_cast<uint16_t>((bits >> 16 & 0x8000u) | (0x3800u + (bits >> 13 & 0x7ffu)));
    uint8_t* to = w.data() + 1 + static_cast<size_t>(i) * row_bytes(dtype, 1);
    if (dtype == DType::kF32) std::memcpy(to, &bits, 4);
    if (dtype == DType::kBF16) std::memcpy(to, &bf16, 2);
    if (dtype == DType::kF16) std::memcpy(to, &half, 2);
  }
  return w;
}

std::vector<float> product(DType dtype, const std::vector<uint8_t>& w, int64_t rows, int64_t cols, int64_t n,
                           bool packs, bool with_bias) {
  MatmulArgs args;
  args.w = {dtype, rows, cols, w.data() + 1};
  args.numerics = Numerics::kExact;
  const auto packed = allocate(packed_bytes(args.w, args.numerics)), scratch = allocate(matmul_scratch_bytes(args.w));
  pack_weights(args.w, args.numerics, 0, (rows + kPanelRows - 1) / kPanelRows, packed.get());
  Rng rng(2);
  std::vector<float> x(static_cast<size_t>(n * (cols + 1))), y(static_cast<size_t>(n * (rows + 1)), -1.0f),
      bias(static_cast<size_t>(rows));
  for (std::vector<float>* v : {&x, &bias})
    for (float& value : *v) value = static_cast<float>(rng.normal());
  args.packed = packs ? packed.get() : nullptr;
  args.x = x.data(), args.ld_x = cols + 1, args.n_tokens = args.token_end = n;
  args.y = y.data(), args.ld_y = rows + 1, args.row_end = rows, args.scratch = scratch.get();
  args.bias = with_bias ? bias.data() : nullptr;
  matmul(args);
  return y;
}

class FloatPanels : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!machine_has(GetParam())) GTEST_SKIP() << "this machine lacks " << name_of(GetParam());
    before_ = active_isa();
    set_isa(GetParam());
    ASSERT_EQ(matmul.used(), GetParam());
  }
  void TearDown() override { set_isa(before_); }

 private:
  Isa before_ = active_isa();
};

TEST_P(FloatPanels, GiveTheBitsOfTheFilesFormAtEveryNumberOfRowsAndTokens) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const int64_t rows : {1, 16, 17, 47, 64, 65, 130}) {
      for (const int64_t cols : {1, 37}) {
        const auto w = weight_bytes(dtype, rows * cols);
        for (const int64_t n : {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 25}) {
          const bool with_bias = n % 2;
          EXPECT_EQ(product(dtype, w, rows, cols, n, true, with_bias),
                    product(dtype, w, rows, cols, n, false, with_bias))
              << dtype_info(dtype).name << " [" << rows << ", " << cols << "], " << n << " tokens";
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryIsa, FloatPanels, ::testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace float_panels_test
}  // namespace fovea::kernels
