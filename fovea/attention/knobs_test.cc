#include "fovea/attention/knobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fovea/attention/method.h"

namespace fovea::attention {
namespace knobs_test {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// One knob of every kind; not in the registry.
class Knobby final : public Method {
 public:
  static constexpr MethodInfo kInfo{.name = "knobby", .title = "Knobby", .paper = "none", .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("window", window, {.min = 1, .max = 100, .help = "keys"});
    knobs.add("tau", tau, {.min = 0, .help = "temperature"});
    knobs.add("strict", strict, {.help = "switch"});
    knobs.add("heads", heads, {.help = "where"});
    knobs.add("mode", mode, {"soft", "hard"}, {.help = "how"});
  }
  int window = 8;
  double tau = 0.5;
  bool strict = false;
  HeadSet heads = HeadSet::all();
  int mode = 1;
};

class Bare final : public Method {
 public:
  static constexpr MethodInfo kInfo{.name = "bare", .title = "Bare", .paper = "none", .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
};

std::string refusal(std::string_view knob, std::string_view value) {
  Knobby method;
  const Status status = set_knob(method, knob, value);
  EXPECT_FALSE(status.has_value()) << knob << "=" << value << " was accepted";
  if (status) return "";
  EXPECT_EQ(status.error().code, ErrorCode::kUsage);
  EXPECT_THAT(status.error().message, HasSubstr("knobby"));
  // What was refused changed nothing.
  EXPECT_EQ(method.window, 8);
  EXPECT_EQ(method.tau, 0.5);
  EXPECT_FALSE(method.strict);
  EXPECT_EQ(method.mode, 1);
  return status.error().message;
}

TEST(Knobs, EachKindIsSetFromText) {
  Knobby method;
  for (const auto& [knob, value] : std::vector<std::pair<const char*, const char*>>{
           {"window", "100"}, {"tau", "1e-3"}, {"strict", "on"}, {"heads", "0.1+2"}, {"mode", "soft"}}) {
    const Status status = set_knob(method, knob, value);
    ASSERT_TRUE(status.has_value()) << status.error().message;
  }
  EXPECT_EQ(method.window, 100);
  EXPECT_EQ(method.tau, 1e-3);
  EXPECT_TRUE(method.strict);
  EXPECT_EQ(method.heads.to_string(), "0.1+2");
  EXPECT_EQ(method.mode, 0);
  ASSERT_TRUE(set_knob(method, "strict", "false").has_value());
  EXPECT_FALSE(method.strict);
}

TEST(Knobs, AreListedWithKindDefaultAndRange) {
  Knobby method;
  const std::vector<KnobInfo> knobs = list_knobs(method);
  ASSERT_EQ(knobs.size(), 5u);
  EXPECT_EQ(knobs[0].kind, KnobInfo::Kind::kWhole);
  EXPECT_EQ(knobs[0].value, "8");
  EXPECT_EQ(knobs[0].max, 100);
  EXPECT_EQ(knobs[0].help, "keys");
  EXPECT_EQ(knobs[1].kind, KnobInfo::Kind::kReal);
  EXPECT_EQ(knobs[1].value, "0.5");
  EXPECT_TRUE(std::isinf(knobs[1].max));
  EXPECT_EQ(knobs[2].value, "false");
  EXPECT_EQ(knobs[3].value, "all");
  EXPECT_EQ(knobs[4].value, "hard");
  EXPECT_THAT(knobs[4].choices, ElementsAre("soft", "hard"));
}

TEST(Knobs, AnUnknownOneIsToldTheNearestAndAll) {
  EXPECT_THAT(refusal("windw", "3"),
              AllOf(HasSubstr("\"windw\""), HasSubstr("nearest: window"), HasSubstr("strict, heads, mode")));
  Bare bare;
  EXPECT_THAT(set_knob(bare, "x", "1").error().message, AllOf(HasSubstr("bare"), HasSubstr("it has none")));
}

TEST(Knobs, NumbersOutOfRangeAreToldTheRange) {
  EXPECT_THAT(refusal("window", "0"), AllOf(HasSubstr("window"), HasSubstr("between 1 and 100"), HasSubstr("\"0\"")));
  EXPECT_THAT(refusal("window", "101"), HasSubstr("between 1 and 100"));
  EXPECT_THAT(refusal("tau", "-0.1"), HasSubstr("at least 0"));
}

TEST(Knobs, A6_WhatIsNoNumberIsQuoted) {
  for (const char* text : {"", "x", "1x", "nan", "inf", "0x10", " 3", "1e999"}) {
    EXPECT_THAT(refusal("tau", text), AllOf(HasSubstr("tau"), HasSubstr("a number"))) << text;
  }
  EXPECT_THAT(refusal("window", "2.5"), HasSubstr("a whole number"));
}

TEST(Knobs, SwitchesChoicesAndHeadsSayWhatTheyTake) {
  EXPECT_THAT(refusal("strict", "maybe"), HasSubstr("true or false"));
  EXPECT_THAT(refusal("mode", "Soft"), AllOf(HasSubstr("one of soft, hard"), HasSubstr("\"Soft\"")));
  EXPECT_THAT(refusal("heads", "5-3"), AllOf(HasSubstr("heads"), HasSubstr("names no heads")));
}

}  // namespace knobs_test
}  // namespace fovea::attention
