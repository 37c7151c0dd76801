#include "fovea/formats/stored_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fovea::formats {
namespace stored_rows_test {

using kernels::DType;
using tensor::Stored;
using ::testing::ElementsAre;

std::vector<float> placed(const std::vector<float>& values, const std::vector<int64_t>& shape, const Stored& how,
                          const std::function<int64_t(int64_t)>& row_of = nullptr) {
  const std::vector<int64_t> dims = stored_dims(shape, how);
  size_t n = 1;
  for (const int64_t dim : dims) n *= static_cast<size_t>(dim);
  std::vector<float> all(n, 0);
  place_rows(DType::kF32, std::as_bytes(std::span(values)), shape, how, dims, row_of,
             std::as_writable_bytes(std::span(all)));
  return all;
}

TEST(StoredRows, PartsOfFusedTensors) {
  EXPECT_THAT(placed({1, 2, 3, 4}, {2, 2}, {.row_begin = 1, .row_end = 3, .fused_rows = 4}),
              ElementsAre(0, 0, 1, 2, 3, 4, 0, 0));
  EXPECT_THAT(placed({1, 2}, {2}, {.row_begin = 1, .row_end = 2, .row_period = 2, .fused_rows = 4}),
              ElementsAre(0, 1, 0, 2));
}

TEST(StoredRows, TurnedSlicesAndRowsInAnotherOrder) {
  EXPECT_EQ(stored_dims({3, 2}, {.slice = 1, .n_slices = 2, .transposed = true}), (std::vector<int64_t>{2, 3, 2}));
  EXPECT_THAT(placed({1, 2, 3, 4, 5, 6}, {3, 2}, {.slice = 1, .n_slices = 2, .transposed = true}),
              ElementsAre(0, 0, 0, 0, 0, 0, 1, 4, 2, 5, 3, 6));
  EXPECT_THAT(placed({1, 2, 3, 4}, {2, 2}, {}, [](int64_t row) { return 1 - row; }), ElementsAre(3, 4, 1, 2));
  EXPECT_EQ(stored_dims({5}, {.one_row = true}), (std::vector<int64_t>{5, 1}));
}

TEST(StoredRows, BlocksMoveInWholeRows) {
  std::vector<std::byte> rows(2 * 34), all(4 * 34);  // Q8_0
  rows[0] = std::byte{1}, rows[34] = std::byte{2};
  place_rows(DType::kQ8_0, rows, {32, 2}, {.row_begin = 2, .row_end = 4, .fused_rows = 4}, {32, 4}, nullptr, all);
  EXPECT_EQ(all[2 * 34], std::byte{1});
  EXPECT_EQ(all[3 * 34], std::byte{2});
}

}  // namespace stored_rows_test
}  // namespace fovea::formats
