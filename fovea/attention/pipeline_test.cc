#include "fovea/attention/pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "fovea/attention/testing/methods.h"
#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace pipeline_test {

using ::testing::AllOf;
using ::testing::HasSubstr;

Result<Pipeline> parse(std::string_view spec) { return Pipeline::parse(spec, OneLayer::small_shape()); }

std::string refusal(std::string_view spec, ErrorCode code = ErrorCode::kUsage) {
  const auto pipeline = parse(spec);
  EXPECT_FALSE(pipeline.has_value()) << spec << " was accepted";
  if (pipeline) return "";
  EXPECT_STREQ(name_of(pipeline.error().code), name_of(code));
  return pipeline.error().message;
}

std::string policy_file(const std::string& text) {
  const std::string path =
      ::testing::TempDir() + "/" + std::to_string(getpid()) + "-policy.json";  // tests run side by side
  std::ofstream(path) << text;
  return path;
}

TEST(Pipeline, DenseAndAutoHaveNoMethods) {
  for (const char* spec : {"dense", "auto"}) {
    const auto pipeline = parse(spec);
    ASSERT_TRUE(pipeline.has_value());
    EXPECT_TRUE(pipeline->dense());
    EXPECT_EQ(pipeline->spec(), "dense");
  }
}

TEST(Pipeline, MethodsKeepTheirOrderAndKnobs) {
  const auto pipeline = parse("test-rule:window=4:n_sink=2,scale:value=0.5");
  ASSERT_TRUE(pipeline.has_value()) << pipeline.error().message;
  ASSERT_EQ(pipeline->methods().size(), 2u);
  EXPECT_EQ(pipeline->methods()[0]->info().name, "test-rule");
  EXPECT_EQ(pipeline->methods()[0]->rule(0, 0).window, 4);
  EXPECT_EQ(pipeline->methods()[0]->rule(0, 0).n_sink, 2);
  EXPECT_EQ(pipeline->spec(), "test-rule:window=4:n_sink=2,scale:value=0.5");
}

TEST(Pipeline, ACommaBeforeAKnobSeparatesKnobsAndUnderscoresReadAsHyphens) {
  const auto pipeline = parse("test_rule:window=4, n_sink=2, scale");
  ASSERT_TRUE(pipeline.has_value()) << pipeline.error().message;
  EXPECT_EQ(pipeline->spec(), "test-rule:window=4:n_sink=2,scale");
}

TEST(Pipeline, AnUnknownMethodIsToldTheNearest) {
  EXPECT_THAT(refusal("streming-llm"),
              AllOf(HasSubstr("\"streming-llm\""), HasSubstr("streaming-llm"), HasSubstr("fovea methods")));
}

TEST(Pipeline, BadKnobsNameTheMethodAndTheKnob) {
  EXPECT_THAT(refusal("scale:valu=1"), AllOf(HasSubstr("scale"), HasSubstr("valu"), HasSubstr("nearest: value")));
  EXPECT_THAT(refusal("scale:value=much"), AllOf(HasSubstr("scale"), HasSubstr("value"), HasSubstr("\"much\"")));
  EXPECT_THAT(refusal("scale:heads=0.9"), AllOf(HasSubstr("scale"), HasSubstr("head 9")));
}

TEST(Pipeline, ASpecThatIsNoneQuotesItself) {
  EXPECT_THAT(refusal(""), HasSubstr("name is missing"));
  EXPECT_THAT(refusal("scale,"), AllOf(HasSubstr("\"scale,\""), HasSubstr("name is missing")));
  EXPECT_THAT(refusal("value=1"), HasSubstr("before any method"));
  EXPECT_THAT(refusal("scale:value"), AllOf(HasSubstr("\"value\""), HasSubstr("KNOB=VALUE")));
  EXPECT_THAT(refusal("scale:=1"), HasSubstr("KNOB=VALUE"));
  EXPECT_THAT(refusal("dense,scale"), HasSubstr("dense stands alone"));
  EXPECT_THAT(refusal("scale,auto"), HasSubstr("auto stands alone"));
  EXPECT_THAT(refusal("policy.json"), HasSubstr("named with @ before it"));
}

TEST(Pipeline, APairThatCannotComposeIsRefusedInEitherOrder) {
  for (const char* spec : {"test-strided,test-positions", "test-positions,test-strided"}) {
    EXPECT_THAT(refusal(spec),
                AllOf(HasSubstr("test-strided"), HasSubstr("test-positions"), HasSubstr("cannot run together")));
  }
}

TEST(Pipeline, APolicyFileSaysTheSame) {
  const std::string path = policy_file(
      R"([{"method": "test-rule", "window": 4, "n_sink": 2}, {"method": "scale", "heads": "0.1", "value": 0.5}])");
  const auto pipeline = parse("@" + path);
  ASSERT_TRUE(pipeline.has_value()) << pipeline.error().message;
  EXPECT_EQ(pipeline->spec(), "test-rule:window=4:n_sink=2,scale:heads=0.1:value=0.5");
  ASSERT_TRUE(parse("@" + policy_file("[]")).has_value());
  const auto dense = parse("@" + policy_file(R"([{"method": "dense"}])"));
  ASSERT_TRUE(dense.has_value()) << dense.error().message;
  EXPECT_EQ(dense->spec(), parse("dense")->spec());
  EXPECT_THAT(refusal("@" + policy_file(R"([{"method": "test-rule"}, {"method": "dense"}])"), ErrorCode::kUsage),
              HasSubstr("dense stands alone"));
}

TEST(Pipeline, ABadPolicyFileIsNamed) {
  EXPECT_THAT(refusal("@/nowhere/policy.json", ErrorCode::kNotFound), HasSubstr("/nowhere/policy.json"));
  EXPECT_THAT(refusal("@"), HasSubstr("without the name of a policy file"));
  for (const char* text :
       {"", "{}", "[1]", "[{}]", R"([{"method": 3}])", R"([{"method": "scale", "value": [1]}])", "[{\"method\""}) {
    EXPECT_THAT(refusal("@" + policy_file(text), ErrorCode::kData), HasSubstr("policy.json")) << text;
  }
  EXPECT_THAT(refusal("@" + policy_file(R"([{"method": "scale", "valu": 1}])")),
              AllOf(HasSubstr("policy.json"), HasSubstr("scale"), HasSubstr("valu")));
}

TEST(Pipeline, ARepeatedKnobOrMethodIsRefused) {
  EXPECT_THAT(refusal("scale:value=1:value=2"), AllOf(HasSubstr("value"), HasSubstr("twice")));
  EXPECT_THAT(refusal("scale:value=2,value=2"), HasSubstr("twice"));
  EXPECT_THAT(refusal("test-rule:window=4,test-rule:window=8"), AllOf(HasSubstr("test-rule"), HasSubstr("twice")));
  EXPECT_THAT(refusal("scale:value=2,scale:value=3"), HasSubstr("twice for head 0.0"));
  EXPECT_THAT(refusal("scale:heads=0:value=2,scale:heads=0.1:value=3"), HasSubstr("twice for head 0.1"));
  ASSERT_TRUE(parse("scale:heads=0.0:value=2,scale:heads=0.1:value=3").has_value());  // each on heads of its own
  EXPECT_THAT(refusal("scale:heads=0.0:value=2,scale:heads=0.1:value=3,scale:heads=0.1:value=4"),
              HasSubstr("twice for head 0.1"));
}

TEST(Pipeline, ErrorsOfAPolicyFileHaveLineAndColumn) {
  const auto place = [](const std::string& text, ErrorCode code = ErrorCode::kData) {
    return refusal("@" + policy_file(text), code);
  };
  EXPECT_THAT(place("[\n {\"method\": \"scale\",\n  \"value\": 1,}\n]"), HasSubstr("line 3, column 14: not JSON"));
  EXPECT_THAT(place("[{\"method\": \"scale\", \"value\": 1e400}]"), HasSubstr("line 1, column"));
  EXPECT_THAT(place("\n{}"), HasSubstr("line 2, column 1: not a policy"));
  EXPECT_THAT(place("[{\"method\": \"scale\"},\n 7]"), HasSubstr("line 2, column 2: the entry has no"));
  EXPECT_THAT(place("[{\"method\": \"scale\",\n  \"value\": 1, \"value\": 2}]"),
              AllOf(HasSubstr("line 2, column 15"), HasSubstr("\"value\" stands twice")));
  EXPECT_THAT(place("[{\"method\": \"scale\",\n \"m\\u0065thod\": \"scale\"}]"), HasSubstr("\"method\" stands twice"));
  EXPECT_THAT(place("[{\"method\": \"scale\",\n  \"value\": null}]"), HasSubstr("line 2, column 3"));
  EXPECT_THAT(place("[{\"method\": \"scale\", \"heads\": \"}],[{\\\"\",\n  \"valu\": 1}]", ErrorCode::kUsage),
              HasSubstr("line 1, column 22: scale: knob heads"));
  EXPECT_THAT(place("[{\"method\": \"test-rule\"},\n {\"n_sink\": 1, \"window\": 0, \"method\": \"test-rule\"}]",
                    ErrorCode::kUsage),
              AllOf(HasSubstr("line 2, column 16"), HasSubstr("window")));
  EXPECT_THAT(place("[{\"method\": \"test-rule\"},\n {\"method\": \"test-rule\"}]", ErrorCode::kUsage),
              AllOf(HasSubstr("line 2, column 2"), HasSubstr("twice")));
}

TEST(Pipeline, ANumberOfAPolicyFileIsReadAsItIsWritten) {
  const auto spec = [](const std::string& heads) {
    const auto pipeline = parse("@" + policy_file("[{\"method\": \"scale\", \"he\\u0061ds\" :\n " + heads + "}]"));
    return pipeline ? pipeline->spec() : pipeline.error().message;
  };
  EXPECT_EQ(spec("0.0"), spec("\"0.0\""));
  EXPECT_THAT(spec("0.10"), HasSubstr("head 10"));  // this model has 8: 0.1 would be one of them
  EXPECT_THAT(spec("0.1 "), HasSubstr("heads=0.1"));
}

// A state that counts calls.
class Counting final : public Method {
 public:
  struct Count : SequenceState {
    int n = 0;
    std::unique_ptr<SequenceState> clone() const override { return std::make_unique<Count>(*this); }
  };
  static constexpr MethodInfo kInfo{
      .name = "test-counting", .title = "Counting", .paper = "none", .stages = kGate, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  std::unique_ptr<SequenceState> begin_sequence() const override { return std::make_unique<Count>(); }
};
FOVEA_REGISTER_METHOD(Counting);

class Needing final : public Method {
 public:
  static constexpr MethodInfo kInfo{.name = "test-needing",
                                    .title = "Needing",
                                    .paper = "none",
                                    .stages = kGate,
                                    .needs = "entropy retrieval:deep sinks:deep=4",
                                    .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  void visit_knobs(KnobVisitor& knobs) override { knobs.add("deep", deep_, {.min = 0, .help = "reads retrieval"}); }

 private:
  int deep_ = 2;
};
FOVEA_REGISTER_METHOD(Needing);

TEST(Pipeline, AMethodWhoseColumnWasNotMeasuredIsRefusedByName) {
  const auto missing = [](std::string_view column, std::string_view command) {
    return AllOf(HasSubstr("test-needing needs the " + std::string(column) + " values"),
                 HasSubstr("fovea profile -m MODEL" + std::string(command)));
  };
  EXPECT_THAT(refusal("test-needing"), missing("entropy", ""));
  HeadProfile profile;
  ModelShape shape = OneLayer::small_shape();
  shape.profile = &profile;
  const auto message = [&](std::string_view spec) {
    const auto pipeline = Pipeline::parse(spec, shape);
    return pipeline ? "accepted" : pipeline.error().message;
  };
  EXPECT_THAT(message("test-needing"), missing("entropy", " --again"));
  profile.columns["entropy"] = {Granularity::kLayer, {0}};
  EXPECT_EQ(message("test-needing:deep=2"), "accepted");  // its default
  EXPECT_THAT(message("test-needing:deep=3"), missing("retrieval", " --again"));
  profile.columns["retrieval"] = {};
  EXPECT_EQ(message("test-needing:deep=3"), "accepted");
  EXPECT_THAT(message("test-needing:deep=4"), missing("sinks", " --again"));
}

TEST(RegisterMethod, RefusesADoubleName) {
  EXPECT_THROW(register_method(Counting::kInfo.name, [] { return std::unique_ptr<Method>(); }), CheckFailed);
  EXPECT_NE(make_method(Counting::kInfo.name), nullptr);
}

TEST(Pipeline, StatesBelongToASequenceAndFollowItsForks) {
  auto pipeline = parse("scale,test-counting");
  ASSERT_TRUE(pipeline.has_value());
  const auto n = [&](SequenceId s) -> int& { return static_cast<Counting::Count*>(pipeline->state(1, s))->n; };
  EXPECT_EQ(pipeline->state(0, 7), nullptr);  // scale keeps none
  n(7) = 3;
  pipeline->fork(7, 8);
  n(8) += 1;
  EXPECT_EQ(n(7), 3);
  EXPECT_EQ(n(8), 4);
  pipeline->remove(7);
  EXPECT_EQ(n(7), 0);
}

}  // namespace pipeline_test
}  // namespace fovea::attention
