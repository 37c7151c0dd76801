#include "fovea/formats/key_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace fovea::formats {
namespace key_map_test {

using Json = nlohmann::ordered_json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

KeyMap keys() {
  KeyMap out("\"config.json\"");
  const Json json = Json::parse(R"({"count": 3, "minus": -3, "large": 18446744073709551615, "half": 0.5, "yes": true,
    "text": "a\u001bb", "texts": ["x", "y"], "numbers": [1, 2.5], "integers": [1, true, -2], "object": {}})");
  for (const auto& [key, value] : json.items()) out.put(key, value, key + " of config.json");
  return out;
}

TEST(KeyMap, GivesValuesOfTheKindAsked) {
  const KeyMap k = keys();
  EXPECT_EQ(k.get_u64("count").value(), 3u);
  EXPECT_EQ(k.get_u64("large").value(), UINT64_MAX);
  EXPECT_EQ(k.get_i64("minus").value(), -3);
  EXPECT_EQ(k.get_f64("count").value(), 3.0);
  EXPECT_EQ(k.get_f64("half").value(), 0.5);
  EXPECT_TRUE(k.get_bool("yes").value());
  EXPECT_THAT(k.get_strings("texts").value(), ElementsAre("x", "y"));
  EXPECT_THAT(k.get_f64s("numbers").value(), ElementsAre(1, 2.5));
  EXPECT_THAT(k.get_i64s("integers").value(), ElementsAre(1, 1, -2));
  EXPECT_EQ(k.text_of("yes") + k.text_of("count") + k.text_of("half") + k.text_of("texts"), "true30.5an array");
  EXPECT_EQ(k.text_of("none"), "");
}

TEST(KeyMap, RefusesOtherKindsAndSaysWhereTheyStand) {
  const KeyMap k = keys();
  EXPECT_THAT(k.get_u64("minus").error().message,
              AllOf(HasSubstr("\"config.json\""), HasSubstr("minus of config.json"), HasSubstr("-3, not 0 or more")));
  EXPECT_THAT(k.get_u64("half").error().message, HasSubstr("0.5, not an integer"));
  EXPECT_THAT(k.get_i64("large").error().message, HasSubstr("below 2^63"));
  EXPECT_THAT(k.get_f64("yes").error().message, HasSubstr("true, not a number"));
  EXPECT_THAT(k.get_bool("count").error().message, HasSubstr("not a bool"));
  EXPECT_THAT(k.get_string("object").error().message, HasSubstr("an object, not a string"));
  EXPECT_THAT(k.get_u64("text").error().message, ::testing::Not(HasSubstr("\x1b")));
  EXPECT_FALSE(k.get_strings("numbers").has_value());
  EXPECT_FALSE(k.get_f64s("texts").has_value());
  EXPECT_FALSE(k.get_i64s("numbers").has_value());
  EXPECT_THAT(k.get_u64("none").error().message, HasSubstr("key \"none\" is missing"));
  EXPECT_THAT(k.get_u64("gpt2.block_count").error().message, HasSubstr("n_layer of config.json is missing"));
}

TEST(KeyMap, TheFirstValueOfAKeyCounts) {
  KeyMap k("x");
  EXPECT_TRUE(k.put("a", 1, "one"));
  EXPECT_FALSE(k.put("a", 2, "two"));
  EXPECT_EQ(k.get_u64("a").value(), 1u);
  k.put("a.b", 1, "");
  k.put("b", 1, "");
  EXPECT_THAT(k.keys_under("a"), ElementsAre("a", "a.b"));
  k.erase("a");
  EXPECT_FALSE(k.has("a"));
}

}  // namespace key_map_test
}  // namespace fovea::formats
