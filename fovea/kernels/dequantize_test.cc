// What blocks of every type of GGUF become, against the values of the `gguf` package
// (tools/make_dequantize_goldens.py).
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"
#include "fovea/kernels/matmul.h"

namespace fovea::kernels {
namespace dequantize_test {

class Dequantize : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!machine_has(GetParam())) GTEST_SKIP() << "this machine lacks " << name_of(GetParam());
    before_ = active_isa();
    set_isa(GetParam());
    ASSERT_EQ(dequantize.used(), GetParam());
  }
  void TearDown() override { set_isa(before_); }

 private:
  Isa before_ = active_isa();
};

TEST_P(Dequantize, GivesTheBitsOfTheGgufPackageForEveryType) {
  int n_types = 0;
  for (const auto& entry : std::filesystem::directory_iterator(source_dir() + "/tests/golden/dequantize")) {
    const std::string name = entry.path().stem();
    SCOPED_TRACE(name);
    int32_t type = 0;
    while (!dtype_info(type) || dtype_info(type)->name != name) ASSERT_LT(++type, 100);
    const DTypeInfo& info = *dtype_info(type);
    EXPECT_TRUE(info.native);
    const std::string bytes = read_file(entry.path()).value();
    const size_t one = static_cast<size_t>(info.block_bytes) + static_cast<size_t>(info.block_elements) * 4;
    ASSERT_EQ(bytes.size() % one, 0u);
    const size_t n_blocks = bytes.size() / one, n = n_blocks * static_cast<size_t>(info.block_elements);
    ASSERT_GE(n_blocks, 8u);
    std::vector<float> want(n), got(n, -1.0f);
    std::memcpy(want.data(), bytes.data() + n_blocks * static_cast<size_t>(info.block_bytes), 4 * n);
    dequantize(static_cast<DType>(type), bytes.data(), static_cast<int64_t>(n), got.data());
    for (size_t i = 0; i < n; ++i) {
      if (std::isnan(want[i])) {
        EXPECT_TRUE(std::isnan(got[i])) << i;
      } else {
        ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(want[i]))
            << i << ": " << got[i] << " for " << want[i];
      }
    }
    ++n_types;
  }
  EXPECT_EQ(n_types, 23);
}

TEST_P(Dequantize, RoundsWideNumbersToFloats) {
  const double doubles[] = {1.0 / 3.0, -1e300, 0.0};
  const int64_t longs[] = {-5, (int64_t{1} << 24) + 1, 0};
  float out[3];
  dequantize(DType::kF64, doubles, 3, out);
  EXPECT_EQ(out[0], 1.0f / 3.0f);
  EXPECT_TRUE(std::isinf(out[1]) && out[1] < 0);
  dequantize(DType::kI64, longs, 3, out);
  EXPECT_EQ(out[0], -5.0f);
  EXPECT_EQ(out[1], 16777216.0f);
  const int8_t bytes[] = {-128, 127, 0};
  dequantize(DType::kI8, bytes, 3, out);
  EXPECT_EQ(out[0], -128.0f);
}

INSTANTIATE_TEST_SUITE_P(EveryIsa, Dequantize, ::testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace dequantize_test
}  // namespace fovea::kernels
