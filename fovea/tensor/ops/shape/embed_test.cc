#include "fovea/tensor/ops/shape/embed.h"

#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace embed_test {

TEST(Embed, TakesTheRowOfEachToken) {
  const Weight table =
      Weight::from("token_embd.weight", Tensor::from({3, 2}, std::vector<float>{0, 1, 10, 11, 20, 21}));
  const Tensor y = embed(table, std::vector<int32_t>{2, 0, 2});
  EXPECT_EQ(y.shape(), Shape({3, 2}));
  EXPECT_EQ(y.data()[1], 21.0f);
  EXPECT_EQ(y.data()[2], 0.0f);
  EXPECT_EQ(y.data()[4], 20.0f);
}

TEST(Embed, RefusesATokenOutsideTheVocabulary) {
  const Weight table = Weight::from("token_embd.weight", Tensor::zeros({3, 2}));
  EXPECT_THROW(embed(table, std::vector<int32_t>{3}), CheckFailed);
  EXPECT_THROW(embed(table, std::vector<int32_t>{-1}), CheckFailed);
}

TEST(Embed, GradientAddsUpOverARepeatedToken) {
  const Tensor table = random_tensor({4, 3}, 1);
  expect_gradients({table}, [&] { return embed(Weight::from("table", table), std::vector<int32_t>{1, 3, 1}); });
}

}  // namespace embed_test
}  // namespace fovea::tensor
