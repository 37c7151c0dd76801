#include "fovea/train/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace fovea::train {
namespace config_test {

using Json = nlohmann::ordered_json;

TEST(TrainConfig, HasTheDefaultsOfThePage) {
  Settings s(Json{{"context", 8}, {"steps", 3}, {"out", "x"}}, "f.json");
  const TrainConfig c(s);
  EXPECT_TRUE(s.finish().has_value());
  EXPECT_EQ(c.batch, 1);
  EXPECT_EQ(c.accumulate, 1);
  EXPECT_EQ(c.checkpoint_every, 500);
  EXPECT_FALSE(c.shuffled || c.recompute || c.eval.on);
  EXPECT_EQ(c.trainer.clip, 0);
}

TEST(TrainConfig, SaysWhatIsNotAsItWas) {
  const Json then = {{"steps", 3}, {"optimizer", {{"lr", 0.1}, {"betas", {0.9, 0.95}}}}};
  EXPECT_EQ(other_setting(then, then), "");
  Json now = then;
  now["steps"] = 9, now["checkpoint_every"] = 4, now["out"] = "moved";
  EXPECT_EQ(other_setting(then, now), "");
  now["optimizer"]["betas"][1] = 0.99;
  EXPECT_EQ(other_setting(then, now), "optimizer.betas is [0.9,0.99], and was [0.9,0.95]");
  now = then;
  now["clip"] = 1;
  EXPECT_EQ(other_setting(then, now), "clip is 1, and was not set");
  now = then;
  now["optimizer"].erase("lr");
  EXPECT_EQ(other_setting(then, now), "optimizer.lr is not set, and was 0.1");
}

}  // namespace config_test
}  // namespace fovea::train
