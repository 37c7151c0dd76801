#include "papers/support/made_layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace fovea::papers {
namespace made_layer_test {

using ::testing::ElementsAre;

TEST(MadeLayer, DenseAttentionIsTheSoftmaxOfItsProducts) {
  MadeLayer layer("dense", {.n_heads = 4, .n_kv_heads = 2});
  layer.read(9, attention::Phase::kPromptEnd);
  layer.decode(1);
  std::vector<double> weights;
  for (int32_t key = 0; key < 10; ++key) weights.push_back(std::exp(layer.product(9, 3, key) / 4));
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<float> z(kMadeDim, 0.0f), v(kMadeDim);
  for (int32_t key = 0; key < 10; ++key) {
    const double weight = weights[static_cast<size_t>(key)] / sum;
    EXPECT_NEAR(double{layer.keys(3)[static_cast<size_t>(key)].weight}, weight, 1e-5);
    noise(2)(key, 1, v);
    for (size_t d = 0; d < v.size(); ++d) z[d] += static_cast<float>(weight) * v[d];
  }
  EXPECT_LT(largest_difference(layer.z(3), z), 1e-5);
}
TEST(MadeLayer, SaysWhatTheLastRowReads) {
  MadeLayer layer("streaming-llm:n_sink=1:window=2", {});
  layer.read(5, attention::Phase::kPromptEnd);
  EXPECT_THAT(layer.positions(), ElementsAre(0, 3, 4));
  layer.decode(2);
  EXPECT_THAT(layer.positions(), ElementsAre(0, 5, 6));
}

}  // namespace made_layer_test
}  // namespace fovea::papers
