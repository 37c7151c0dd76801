#include <gtest/gtest.h>

#include <vector>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace head_temperature_test {

TEST(HeadTemperature, MultipliesTheScoresOfEachHead) {
  const std::vector<float> factors = {2, 1, 0, 0.25f};
  OneLayer layer("head-temperature");
  for (const tensor::Parameter& p : layer.pipeline.methods()[0]->parameters()) {
    tensor::Tensor t = tensor::Tensor::empty({4});
    std::copy(factors.begin(), factors.end(), t.data());
    *p.target = tensor::Weight::from(p.name, t);
  }
  const std::vector<float> z = layer.feed(20);
  for (int head = 0; head < 4; ++head) {
    OneLayer twin;  // whose scale is what the weight makes of it
    twin.use([&](AttentionShape& site) { site.scale *= factors[static_cast<size_t>(head)]; });
    twin.feed(20);
    layer.expect_head(z, 19, head, twin.weighed(head, twin.pattern(head, 19, [](int32_t) { return true; })));
  }
}

TEST(HeadTemperature, OneChangesNoBit) {
  OneLayer dense, idle("head-temperature");
  EXPECT_EQ(idle.feed(40), dense.feed(40));
}

}  // namespace head_temperature_test
}  // namespace fovea::attention
