// `fovea methods`: the catalogue as people and scripts read it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/attention/method.h"
#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_methods_test {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

class MethodsCommand : public Cli {
 protected:
  Json json(const std::vector<std::string>& args) {
    const Ended ended = run(args);
    EXPECT_EQ(ended.code, 0) << ended.err;
    return Json::parse(ended.out);
  }
};

TEST_F(MethodsCommand, ListsEveryMethodWithEveryKeyThatScriptsRelyOn) {
  const Json methods = json({"methods", "--json"})["methods"];
  std::vector<std::string> slugs;
  for (const Json& method : methods) {
    slugs.push_back(method["slug"].get<std::string>());
    for (const char* key : {"name", "paper"})
      EXPECT_TRUE(method[key].is_string() && !method[key].empty()) << slugs.back() << " " << key;
    for (const char* key : {"stages", "needs", "composes_with", "knobs"})
      EXPECT_TRUE(method[key].is_array()) << slugs.back() << " " << key;
    for (const Json& knob : method["knobs"]) {
      for (const char* key : {"name", "default", "min", "max", "help"})
        EXPECT_TRUE(knob.contains(key)) << slugs.back() << " " << knob;
    }
  }
  std::vector<std::string> registered = attention::method_names();
  std::erase_if(registered, [](const std::string& name) { return name.starts_with("test-"); });  // of this program
  EXPECT_EQ(slugs, registered);
  const Ended ended = run({"methods"});
  for (const std::string& slug : slugs) EXPECT_THAT(ended.out, HasSubstr(slug));
}

TEST_F(MethodsCommand, SaysWhereAMethodChangesNothing) {
  const auto says = [this](const std::string& spec, const std::vector<std::string>& command) {
    std::vector<std::string> args = command;
    args.insert(args.end(), {"-m", kTiny, "--attention"});
    args.push_back(spec);
    const Ended ended = run(args);
    EXPECT_EQ(ended.code, 0) << ended.err;
    return ended.err.find("changes nothing") != std::string::npos;
  };
  const std::vector<std::string> logits = {"logits", "Hello", "-o", path("logits.npy")};
  EXPECT_TRUE(says("retrieval-heads:heads=0.1", logits));
  EXPECT_FALSE(says("streaming-llm", logits));
  EXPECT_FALSE(says("dense", logits));
  EXPECT_FALSE(says("retrieval-heads:heads=0.1", {"run", "Hello", "-n", "2"}));
}

TEST_F(MethodsCommand, TellsOneMethodsKnobsWithTheirTypes) {
  const Json methods = json({"methods", "streaming_llm", "--json"})["methods"];
  ASSERT_EQ(methods.size(), 1u);
  const Json& method = methods[0];
  EXPECT_EQ(method["name"], "StreamingLLM");
  EXPECT_EQ(method["stages"], Json({"choose", "keep"}));
  EXPECT_EQ(method["needs"], Json({"retrieval"}));
  EXPECT_NE(std::count(method["composes_with"].begin(), method["composes_with"].end(), "scale"), 0);
  std::map<std::string, Json> knobs;
  for (const Json& knob : method["knobs"]) knobs[knob["name"].get<std::string>()] = knob;
  EXPECT_EQ(knobs["window"]["default"], 1020);
  EXPECT_EQ(knobs["window"]["min"], 1);
  EXPECT_EQ(knobs["heads"]["default"], "all");
  EXPECT_EQ(knobs["heads"]["min"], nullptr);
  const Ended ended = run({"methods", "streaming-llm"});
  EXPECT_THAT(ended.out, AllOf(HasSubstr("n_sink"), HasSubstr("1020"), HasSubstr("arXiv:2309.17453"),
                               HasSubstr("--attention streaming-llm:")));
}

TEST_F(MethodsCommand, AnUnknownNameIsAUsageErrorWithTheNearest) {
  EXPECT_THAT(fails(2, {"methods", "straming-llm"}), AllOf(HasSubstr("straming-llm"), HasSubstr("streaming-llm")));
}

}  // namespace cli_methods_test
}  // namespace fovea
