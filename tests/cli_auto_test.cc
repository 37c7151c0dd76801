// `--attention auto`: chosen from rows of `fovea leaderboard`, dense where there are none, the default of `ask`.
#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_auto_test {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

class Auto : public Cli {
 protected:
  // Rows as if snapkv had been twice as fast at 340 tokens, and as good.
  void plant_board() {
    const Json made = json({"leaderboard", "-m", kTiny, "--length", "340", "--samples", "1", "-r", "1", "--tasks",
                            "niah", "--methods", "snapkv:keep=0.5", "-o", path("rows.json"), "--json", "-q"});
    Json board = Json::parse(read_file(path("rows.json")).value());
    for (Json& row : board["rows"]) {
      row["tasks"] = Json::array({{{"task", "niah"}, {"score", 1}, {"dense_score", 1}, {"tells", true}}});
      row["dense_prefill_seconds"] = 2, row["prefill_seconds"] = row["method"] == "dense" ? 2 : 1;
      row["dense_decode_seconds"] = row["decode_seconds"] = 0.001;
      row["nll_delta"] = 0;
    }
    const auto dir = root_ / ".cache/fovea/leaderboard";
    std::filesystem::create_directories(dir);
    ASSERT_TRUE(write_file_atomic((dir / "planted.json").string(), board.dump()));
  }
  std::vector<std::string> ask(const std::string& text, const std::vector<std::string>& more) {
    std::vector<std::string> out = {"ask", "-m", kTiny, "--file", text, "-n", "2", "Why?"};
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }
};

TEST_F(Auto, TakesWhatWasMeasuredToBeFasterAndSaysWhy) {
  plant_board();
  std::string words;
  while (words.size() < 400) words += "The house of the miller stands at the river. ";
  const std::string text = file("long.txt", words), brief = file("brief.txt", "A house.");
  const Json asked = json(ask(text, {"--json", "-q"}));
  EXPECT_EQ(asked["attention"], "snapkv:keep=0.5") << asked["auto"].dump();
  EXPECT_EQ(asked["auto"]["measured_at"], 340);
  EXPECT_GT(asked["auto"]["seconds_saved"].get<double>(), 0);
  EXPECT_LT(asked["cost"]["kv_bytes"], asked["cost"]["kv_bytes_dense"]);
  const Ended told = run(ask(text, {}));
  EXPECT_THAT(told.err, AllOf(HasSubstr("auto: snapkv:keep=0.5 for "), HasSubstr("measured at 340 tokens")));
  EXPECT_THAT(told.out, HasSubstr("saved by auto"));
  const Json dense = json(ask(brief, {"--json", "-q"}));
  EXPECT_EQ(dense["attention"], "dense");
  EXPECT_THAT(dense["auto"]["why"].get<std::string>(), HasSubstr("measured from 340 on"));
  EXPECT_FALSE(json(ask(text, {"--json", "-q", "--attention", "dense"})).contains("auto"));
  EXPECT_EQ(json({"run", "-m", kTiny, "--raw", "-n", "1", "--json", "-q", "--attention", "auto", words})["attention"],
            "snapkv:keep=0.5");
}

TEST_F(Auto, RefusesABoundThatIsNone) {
  const std::string text = file("a.txt", "A house.");
  EXPECT_THAT(fails(2, ask(text, {"--attention", "auto:loss=1"})), AllOf(HasSubstr("loss"), HasSubstr("recall")));
  EXPECT_THAT(fails(2, {"run", "-m", kTiny, "--raw", "--attention", "auto:nll=many", "A"}), HasSubstr("many"));
}

TEST_F(Auto, ANamedMethodOfALeaderboardThatCannotRunIsAnError) {
  EXPECT_THAT(fails(2, {"leaderboard", "-m", kTiny, "--length", "300", "--methods", "snapkw:keep=0.5", "-q"}),
              HasSubstr("snapkv"));
}

}  // namespace cli_auto_test
}  // namespace fovea
