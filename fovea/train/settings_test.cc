#include "fovea/train/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace fovea::train {
namespace settings_test {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

Settings of(const char* text) { return Settings(Json::parse(text), "f.json"); }

TEST(Settings, HandOnWhatIsThereAndElseTheFallback) {
  Settings s = of(R"({"lr": 0.5, "n": 3, "on": true, "name": "x", "list": ["a"], "betas": [0.5, 0.6]})");
  EXPECT_EQ(s.number("lr", 1.0, 0, 1), 0.5);
  EXPECT_EQ(s.number("eps", 2.0, 0, 9), 2.0);
  EXPECT_EQ(s.integer("n", std::nullopt, 0, 9), 3);
  EXPECT_TRUE(s.flag("on", false));
  EXPECT_EQ(s.text("name", ""), "x");
  EXPECT_EQ(s.texts("list", {}), std::vector<std::string>{"a"});
  EXPECT_EQ(s.numbers("betas", {0, 0}, 0, 1), (std::vector<double>{0.5, 0.6}));
  EXPECT_TRUE(s.finish().has_value());
}

TEST(Settings, NameTheKeyThatNobodyReadAndTheNearest) {
  Settings s = of(R"({"optimizer": {"weight_deacy": 0.1}})");
  Settings inner = s.object("optimizer");
  (void)inner.number("weight_decay", 0, 0, 1);
  const Status end = s.finish();
  ASSERT_FALSE(end.has_value());
  EXPECT_THAT(end.error().message, HasSubstr("optimizer.weight_deacy is no setting here; the nearest is weight_decay"));
}

TEST(Settings, KnowWhatOtherTrainersCallAKeyThatIsMissing) {
  Settings s = of(R"({"model": {"hidden_size": 64}})");
  (void)s.object("model").integer("d_model", std::nullopt, 1, 99);
  EXPECT_EQ(s.finish().error().message, "f.json: model.hidden_size is no setting here; it is model.d_model");
}

TEST(Settings, SayWhereAKeyOfTheTopBelongsAndWhatIsNotThere) {
  const auto problem = [](const char* text) {
    Settings s = of(text);
    (void)s.object("optimizer").number("weight_decay", 0, 0, 1);
    return s.finish().error().message;
  };
  EXPECT_EQ(problem(R"({"weight_decay": 0.1})"),
            "f.json: weight_decay is no setting here; it is optimizer.weight_decay");
  EXPECT_EQ(problem(R"({"bf16": true})"), "f.json: bf16 is no setting here: all is computed in float32");
  EXPECT_EQ(problem(R"({"optimizer": {"dropout": 1}})").substr(0, 54),
            "f.json: optimizer.dropout is no setting here: nothing ");
  EXPECT_EQ(problem(R"({"optimizer": "sgd"})"),
            "f.json: optimizer is \"sgd\"; an object is needed, such as {\"name\": \"sgd\"}");
}

TEST(Settings, AnObjectAskedForTwiceIsOne) {
  Settings s = of(R"({"eval": {"every": 1, "data": 2}})");
  (void)s.object("eval").any("every");
  (void)s.object("eval").any("data");
  EXPECT_TRUE(s.finish().has_value());
}

TEST(Settings, SayTheFirstProblemInOneSentence) {
  const auto problem = [](const char* text, auto read) {
    Settings s = of(text);
    read(s);
    const Status end = s.finish();
    return end ? std::string() : end.error().message;
  };
  const auto lr = [](Settings& s) { (void)s.number("lr", std::nullopt, 0, 1); };
  EXPECT_EQ(problem(R"({"lr": "nan"})", lr), "f.json: lr is \"nan\"; a number, 0 to 1, is needed");
  EXPECT_EQ(problem(R"({"lr": 7})", lr), "f.json: lr is 7; it may be 0 to 1");
  EXPECT_EQ(problem("{}", lr), "f.json: lr is missing; a number, 0 to 1, is needed");
  const auto n = [](Settings& s) { (void)s.integer("n", 1, 1, 10); };
  EXPECT_EQ(problem(R"({"n": 1.5})", n), "f.json: n is 1.5; a whole number from 1 to 10 is needed");
  EXPECT_EQ(problem(R"({"n": 18446744073709551615})", n), "f.json: n is 18446744073709551615; it may be 1 to 10");
  EXPECT_EQ(problem(R"({"on": 1})", [](Settings& s) { (void)s.flag("on", false); }),
            "f.json: on is 1; true or false is needed");
  EXPECT_EQ(problem(R"({"o": [1]})", [](Settings& s) { (void)s.object("o"); }),
            "f.json: o is a list; an object is needed");
  EXPECT_EQ(problem("[]", [](Settings&) {}), "f.json: a list stands where an object of settings is needed");
  EXPECT_THAT(problem(R"({"order": "shufled"})",
                      [](Settings& s) {
                        (void)s.one_of("order", "sequential", {"sequential", "shuffled"});
                      }),
              HasSubstr("did you mean shuffled?"));
}

}  // namespace settings_test
}  // namespace fovea::train
