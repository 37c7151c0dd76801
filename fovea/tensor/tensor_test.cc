#include "fovea/tensor/tensor.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/tensor/exec.h"

namespace fovea::tensor {
namespace tensor_test {

TEST(Shape, CountsElementsAndPrintsItself) {
  EXPECT_EQ(Shape({3, 4}).elements(), 12);
  EXPECT_EQ(Shape({3, 4})[-1], 4);
  EXPECT_EQ(Shape({3, 4}).to_string(), "[3, 4]");
  EXPECT_THROW(Shape({-1}), CheckFailed);
  EXPECT_EQ(Shape({2, 3, 1, 4, 1, 5}).elements(), 120);
  EXPECT_THROW(Shape({1, 1, 1, 1, 1, 1, 1}), CheckFailed);
}

TEST(Tensor, CopiesAndViewsShareTheirValues) {
  Tensor a = Tensor::zeros({2, 3});
  Tensor b = a.with_shape({6});
  a.data()[4] = 7.0f;
  EXPECT_EQ(b.values()[4], 7.0f);
  EXPECT_EQ(a.id(), b.id());
  EXPECT_THROW(a.with_shape({5}), CheckFailed);
}

TEST(Tensor, EveryNewTensorHasAnIdOfItsOwn) {
  Arena arena;
  Exec exec{.arena = &arena};
  ExecScope scope(exec);
  uint64_t first;
  {
    Tensor a = Tensor::empty({8});
    first = a.id();
  }
  EXPECT_NE(Tensor::empty({8}).id(), first);  // the same block, but other values
}

TEST(Arena, AllocatesNothingOnceWarm) {
  Arena arena;
  Exec exec{.arena = &arena};
  ExecScope scope(exec);
  const auto step = [] {
    Tensor a = Tensor::empty({100});
    Tensor b = Tensor::empty({100});
    Tensor c = Tensor::empty({7});
  };
  step();
  const uint64_t warm = arena.heap_allocations();
  EXPECT_EQ(warm, 3u);
  for (int i = 0; i < 10; ++i) step();
  EXPECT_EQ(arena.heap_allocations(), warm);
  EXPECT_EQ(arena.bytes_in_use(), 0u);
  EXPECT_GT(arena.bytes_held(), 0u);
  arena.trim();
  EXPECT_EQ(arena.bytes_held(), 0u);
}

TEST(Arena, AShorterChunkTakesTheBlocksOfALongerOne) {
  Arena arena;
  Exec exec{.arena = &arena};
  ExecScope scope(exec);
  { const Tensor chunk = Tensor::empty({512, 64}); }
  const size_t held = arena.bytes_held();
  { const Tensor shorter = Tensor::empty({448, 64}); }
  EXPECT_EQ(arena.bytes_held(), held);
  const Tensor row = Tensor::empty({1, 64});  // but one row leaves them alone
  EXPECT_EQ(arena.heap_allocations(), 2u);
}

TEST(Arena, ATensorMayOutliveItAndEndOnAnotherThread) {
  Tensor kept, other;
  {
    Arena arena;
    Exec exec{.arena = &arena};
    ExecScope scope(exec);
    kept = Tensor::from({3}, std::vector<float>{1, 2, 3});
    other = Tensor::from({1000}, std::vector<float>(1000, 5.0f));
    const Tensor gone = Tensor::empty({70});
  }
  EXPECT_EQ(kept.values()[2], 3.0f);
  EXPECT_EQ(other.values()[999], 5.0f);
  std::thread([&] { other = Tensor(); }).join();
  const Tensor copy = kept;
  kept = Tensor();
  EXPECT_EQ(copy.values()[0], 1.0f);
}

TEST(Tensor, LivesOnTheHeapWithoutAnExec) {
  const Tensor t = Tensor::from({2}, std::vector<float>{1.0f, 2.0f});
  EXPECT_EQ(t.values()[1], 2.0f);
  EXPECT_TRUE(t.defined());
  EXPECT_FALSE(Tensor().defined());
}

}  // namespace tensor_test
}  // namespace fovea::tensor
