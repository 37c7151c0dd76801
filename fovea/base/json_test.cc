#include "fovea/base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace fovea {
namespace json_test {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Json = nlohmann::ordered_json;

TEST(Json, ReadsEveryKindOfValueInOrder) {
  const std::string text =
      R"({"b": [1, -2, 3.5, true, false, null, "\u00e9\n"], "a": {"c": {}}, "big": 18446744073709551615})";
  const auto json = parse_json(text, "f");
  ASSERT_TRUE(json.has_value()) << json.error().message;
  EXPECT_EQ(*json, Json::parse(text));
  EXPECT_EQ(json->dump(), Json::parse(text).dump());
  EXPECT_EQ(parse_json("\xEF\xBB\xBF 7 ", "f").value(), 7);
}

TEST(Json, ErrorsNameFileLineAndColumn) {
  const auto fails = [](std::string_view text, const char* says, ErrorCode code = ErrorCode::kData) {
    const auto json = parse_json(text, "f");
    ASSERT_FALSE(json.has_value()) << text;
    EXPECT_EQ(json.error().code, code);
    EXPECT_THAT(json.error().message, StartsWith(says)) << text;
  };
  fails("[1,\n 1e400]", "f, line 2, column 2: the number 1e400 is too large");
  fails("-1e999", "f, line 1, column 1: the number -1e999 is too large");
  fails("{\"\xC3\xA9\": 1,\n\"a\": 1, \"a\": 2}", "f, line 2, column 9: the key \"a\" stands twice");
  fails("{\"a\\\"b\": 1, \"a\\\"b\": 2}", "f, line 1, column 13: the key \"a\\\"b\" stands twice");
  fails("{\"\": 1, \"\": 2}", "f, line 1, column 9: the key \"\" stands twice");
  fails("", "f, line 1, column 1: not JSON: it ends there");
  fails("[1,\n2", "f, line 2, column 2: not JSON: it ends there");
  fails(std::string_view("{}\0 x", 5), "f, line 1, column 3: not JSON: unexpected \"\\x00\"");
  fails("[1, nan]", "f, line 1, column 6: not JSON");
  fails("\"\xC3\xA9\xC3\xA9\x01\"", "f, line 1, column 4: not JSON: unexpected \"\\x01\"");
  fails("\"\xFF\"", "f, line 1, column 2: not JSON: unexpected \"\\xFF\"");
  fails("\"\\ud800\"", "f, line 1, column 8: not JSON");
  fails("[] []", "f, line 1, column 4: not JSON");
  fails(std::string(65, '['), "f, line 1, column 65: it is nested deeper than 64", ErrorCode::kLimit);
}

TEST(Json, TheSameKeyInTwoObjectsIsNoRepeat) {
  EXPECT_TRUE(parse_json(R"([{"a": {"a": 1}}, {"a": 2}])", "f").has_value());
}

TEST(Json, ADeepOrALongDocumentCostsNoMoreThanItsLength) {
  EXPECT_TRUE(parse_json(std::string(64, '[') + std::string(64, ']'), "f").has_value());
  EXPECT_FALSE(parse_json(std::string(10'000'000, '['), "f").has_value());
  std::string keys = "{";
  for (int i = 0; i < 200'000; ++i) keys += "\"" + std::to_string(i) + "\":0,";
  const auto json = parse_json(keys + "\"end\":1}", "f");  // seconds, if every key were looked for among all before
  ASSERT_TRUE(json.has_value()) << json.error().message;
  EXPECT_EQ(json->size(), 200'001u);
}

}  // namespace json_test
}  // namespace fovea
