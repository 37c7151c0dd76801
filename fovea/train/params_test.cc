#include "fovea/train/params.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "fovea/base/threads.h"

namespace fovea::train {
namespace params_test {

TEST(Params, GlobsFitEitherName) {
  EXPECT_TRUE(names_param("blk.*.attn_q.*", "blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"));
  EXPECT_TRUE(names_param("*q_proj*", "blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"));
  EXPECT_FALSE(names_param("*k_proj*", "blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"));
}

TEST(Params, AGlobThatFitsNothingIsNamedWithTheNearest) {
  const Status status =
      check_globs({"blk.*", "output.wieght"}, {{"blk.0.x", ""}, {"output.weight", "lm_head.weight"}}, "trainable");
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().message, "trainable: \"output.wieght\" fits no parameter; the nearest is output.weight");
}

TEST(Params, SumsOfSquaresHaveTheSameBitsOnAnyNumberOfThreads) {
  tensor::Tensor x = tensor::Tensor::empty({100'003});
  double twin = 0;
  for (int64_t i = 0; i < x.elements(); ++i) {
    x.data()[i] = 1e-3f * static_cast<float>(i % 977) - 0.4f;
    twin += static_cast<double>(x.data()[i]) * x.data()[i];
  }
  set_threads(1);
  const double one = sum_of_squares(x);
  set_threads(3);
  const double three = sum_of_squares(x);
  set_threads(0);
  EXPECT_EQ(one, three);
  EXPECT_NEAR(one, twin, 1e-9 * twin);
}

TEST(Params, FindWhatIsNotFinite) {
  tensor::Tensor x = tensor::Tensor::zeros({70'000});
  EXPECT_TRUE(all_finite(x));
  x.data()[69'999] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(all_finite(x));
  x.data()[69'999] = std::nanf("");
  EXPECT_FALSE(all_finite(x));
}

}  // namespace params_test
}  // namespace fovea::train
