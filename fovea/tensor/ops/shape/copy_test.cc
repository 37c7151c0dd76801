#include "fovea/tensor/ops/shape/copy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace copy_test {

using ::testing::ElementsAre;

std::vector<float> values(const Tensor& t) { return {t.values().begin(), t.values().end()}; }
Tensor counted(const Shape& shape) {
  Tensor t = Tensor::empty(shape);
  for (int64_t i = 0; i < t.elements(); ++i) t.data()[i] = static_cast<float>(i);
  return t;
}

TEST(Copy, SlicesJoinToTheWhole) {
  const Tensor x = counted({2, 3});
  EXPECT_THAT(values(slice(x, 1, 1, 3)), ElementsAre(1, 2, 4, 5));
  EXPECT_THAT(values(slice(x, 0, 1, 2)), ElementsAre(3, 4, 5));
  for (const int dim : {0, 1})
    EXPECT_EQ(values(concat({slice(x, dim, 0, 1), slice(x, dim, 1, x.dim(dim))}, dim)), values(x));
  EXPECT_EQ(slice(x, 1, 1, 1).elements(), 0);
}

TEST(Copy, PermutesPadsAndRepeats) {
  EXPECT_THAT(values(permute(counted({2, 3}), {1, 0})), ElementsAre(0, 3, 1, 4, 2, 5));
  const Tensor y = permute(counted({2, 3, 2}), {1, 0, 2});
  EXPECT_EQ(y.shape(), Shape({3, 2, 2}));
  EXPECT_THAT(values(y), ElementsAre(0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11));
  EXPECT_THAT(values(pad(counted({2, 2}), 1, 1, 0, 9)), ElementsAre(9, 0, 1, 9, 2, 3));
  EXPECT_THAT(values(repeat(counted({2, 2}), 1, 2)), ElementsAre(0, 1, 0, 1, 2, 3, 2, 3));
}

// y at [i0 ... i5] of six dimensions is x at the indices that `from` makes of them.
void expect_moved(const Tensor& y, const Tensor& x, const std::function<void(std::array<int64_t, 6>&)>& from) {
  ASSERT_EQ(y.shape().rank(), 6);
  for (int64_t i = 0; i < y.elements(); ++i) {
    std::array<int64_t, 6> at{};
    int64_t left = i, to = 0;
    for (int d = 6; d-- > 0;) at[static_cast<size_t>(d)] = left % y.dim(d), left /= y.dim(d);
    from(at);
    for (int d = 0; d < 6; ++d) to = to * x.dim(d) + at[static_cast<size_t>(d)];
    ASSERT_EQ(y.data()[i], x.data()[to]) << "element " << i;
  }
}

TEST(Copy, MovesSixDimensions) {
  const Tensor x = random_tensor({2, 3, 1, 2, 4, 3}, 1);
  const Tensor y = permute(x, {4, 0, 5, 2, 1, 3});
  EXPECT_EQ(y.shape(), Shape({4, 2, 3, 1, 3, 2}));
  expect_moved(y, x, [](auto& i) { i = {i[1], i[4], i[3], i[5], i[0], i[2]}; });
  expect_moved(permute(x, {1, 0, 3, 2, 4, 5}), x, [](auto& i) { i = {i[1], i[0], i[3], i[2], i[4], i[5]}; });
  expect_moved(slice(x, 4, 1, 3), x, [](auto& i) { i[4] += 1; });
  expect_moved(concat({x, x}, 3), x, [](auto& i) { i[3] %= 2; });
  expect_gradients({x}, [&] { return permute(x, {4, 0, 5, 2, 1, 3}); });
  expect_gradients({x}, [&] { return concat({slice(x, 1, 1, 3), x}, 1); });
}

TEST(Copy, GathersAndScatters) {
  EXPECT_THAT(values(gather(counted({2, 3}), std::vector<int32_t>{2, 0, 1, 1}, 2)), ElementsAre(2, 0, 4, 4));
  EXPECT_THAT(values(scatter_add(counted({3, 2}), std::vector<int32_t>{1, 0, 1}, 3)), ElementsAre(2, 3, 4, 6, 0, 0));
}

TEST(Copy, RefusesWhatIsNotThere) {
  const Tensor x = counted({2, 3});
  EXPECT_THROW(slice(x, 1, 2, 4), CheckFailed);
  EXPECT_THROW(slice(x, 2, 0, 1), CheckFailed);
  EXPECT_THROW(concat({x, counted({3, 2})}, 0), CheckFailed);
  EXPECT_THROW(permute(x, {0, 0}), CheckFailed);
  EXPECT_THROW(pad(x, 0, -1, 0), CheckFailed);
  EXPECT_THROW(gather(x, std::vector<int32_t>{3, 0}, 1), CheckFailed);
  EXPECT_THROW(scatter_add(x, std::vector<int32_t>{0, 2}, 2), CheckFailed);
}

TEST(Copy, GradientsMeetFiniteDifferences) {
  const Tensor x = random_tensor({2, 3, 4}, 1), y = random_tensor({2, 2, 4}, 2);
  expect_gradients({x}, [&] { return slice(x, 1, 1, 3); });
  expect_gradients({x, y}, [&] { return concat({x, y, x}, 1); });
  expect_gradients({x}, [&] { return permute(x, {2, 0, 1}); });
  expect_gradients({x}, [&] { return permute(x, {1, 0, 2}); });
  expect_gradients({x}, [&] { return pad(x, 2, 1, 2, 5); });
  expect_gradients({x}, [&] { return repeat(x, 0, 3); });
  expect_gradients({x}, [&] { return scatter_add(x, std::vector<int32_t>{1, 1}, 3); });
  const Tensor m = random_tensor({2, 5}, 3);
  expect_gradients({m}, [&] { return gather(m, std::vector<int32_t>{4, 4, 0, 1}, 2); });
}

}  // namespace copy_test
}  // namespace fovea::tensor
