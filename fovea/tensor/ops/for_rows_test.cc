#include "fovea/tensor/ops/for_rows.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace fovea::tensor {
namespace for_rows_test {

TEST(ForRows, VisitsEveryRowOnce) {
  for (const int threads : {1, 2, 5}) {
    set_threads(threads);
    for (const int64_t n_rows : {0, 1, 2, 7, 100, 16384, 16391}) {
      for (const int64_t row_elements : {1, 64, 20000}) {
        std::vector<std::atomic<int>> visits(static_cast<size_t>(n_rows));
        for_rows(n_rows, row_elements, [&](int64_t begin, int64_t end) {
          for (int64_t row = begin; row < end; ++row) ++visits[static_cast<size_t>(row)];
        });
        for (const auto& count : visits) ASSERT_EQ(count, 1) << n_rows << " rows of " << row_elements;
      }
    }
  }
  set_threads(0);
}

TEST(ForRows, FewElementsAreNotWorthAThread) {
  int parts = 0;
  for_rows(100, kInlineElements / 100 - 1, [&](int64_t begin, int64_t end) {
    ++parts;
    EXPECT_EQ(end - begin, 100);
  });
  EXPECT_EQ(parts, 1);
}

TEST(ForElements, PartsStartAtMultiplesOf64) {
  std::atomic<int64_t> total{0};
  const int64_t n = 100'003;
  for_elements(n, [&](int64_t begin, int64_t end) {
    EXPECT_EQ(begin % 64, 0);
    total += end - begin;
  });
  EXPECT_EQ(total, n);
}

}  // namespace for_rows_test
}  // namespace fovea::tensor
