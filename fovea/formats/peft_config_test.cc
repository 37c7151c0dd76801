#include "fovea/formats/peft_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "fovea/base/json.h"

namespace fovea::formats {
namespace peft_config_test {

PeftConfig config(const std::string& text) {
  auto read = PeftConfig::read(parse_json(text, "config").value(), "config");
  EXPECT_TRUE(read.has_value()) << read.error().message;
  return std::move(read).value();
}

TEST(PeftConfig, DefaultsAreThoseOfPeft) {
  EXPECT_EQ(config(R"({"peft_type": "LORA"})").scale_of("x.q_proj", 8).value(), 1);
  EXPECT_EQ(config(R"({"peft_type": "LORA", "r": 4})").scale_of("x.q_proj", 4).value(), 2);
}

TEST(PeftConfig, ARankOfAPatternDividesTheAlphaOfAnother) {
  const auto some = config(
      R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "rank_pattern": {"layers.1.q": 16}, "alpha_pattern": {"q": 32}})");
  EXPECT_EQ(some.scale_of("layers.0.q", 4).value(), 8);
  EXPECT_EQ(some.scale_of("layers.1.q", 16).value(), 2);
  EXPECT_EQ(some.scale_of("layers.11.q", 4).value(), 8);  // no part of "11"
  EXPECT_EQ(some.scale_of("layers.0.k", 4).value(), 2);
  const auto wrong = some.scale_of("layers.1.q", 4);
  ASSERT_FALSE(wrong.has_value());
  EXPECT_THAT(wrong.error().message, ::testing::HasSubstr("16"));
}

}  // namespace peft_config_test
}  // namespace fovea::formats
