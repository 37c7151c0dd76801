// `fovea eval`: tasks, scores and costs as people and scripts read them. The tiny models read 512 tokens and answer at
// random.
#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_eval_test {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

class Eval : public Cli {
 protected:
  static std::vector<std::string> command(const std::string& task, const std::vector<std::string>& more) {
    std::vector<std::string> out = {"eval", task, "-m", kTiny, "--haystack", "prose", "-q"};
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }
};

TEST_F(Eval, GivesTheKeysThatScriptsRelyOn) {
  const Json result = json(command("niah", {"--length", "440", "--samples", "2", "-s", "3", "--json", "--prompts"}));
  for (const char* key : {"task", "length", "samples", "score", "score_interval", "per_sample", "attention", "seed",
                          "cost", "questions", "haystack", "model"})
    EXPECT_TRUE(result.contains(key)) << key;
  EXPECT_EQ(result["task"], "niah");
  EXPECT_EQ(result["length"], 440);
  EXPECT_EQ(result["samples"], 2);
  EXPECT_EQ(result["seed"], 3);
  EXPECT_EQ(result["attention"], "dense");
  ASSERT_EQ(result["per_sample"].size(), 2u);
  for (const Json& row : result["per_sample"]) {
    for (const char* key : {"answer", "expected", "asked", "score", "depth", "length", "seconds"})
      EXPECT_TRUE(row.contains(key)) << key;
    EXPECT_EQ(row["length"], 440);
    EXPECT_THAT(row["prompt"].get<std::string>(),
                AllOf(HasSubstr(row["expected"][0].get<std::string>()), HasSubstr(row["asked"].get<std::string>())));
  }
  EXPECT_EQ(result["per_sample"][0]["depth"], 0);
  EXPECT_EQ(result["per_sample"][1]["depth"], 1);
  for (const char* key :
       {"prompt_tokens", "prefill_seconds", "decode_seconds", "kv_bytes", "kv_bytes_dense", "key_share"})
    EXPECT_TRUE(result["cost"].contains(key)) << key;
  EXPECT_EQ(result["cost"]["prompt_tokens"], 880);
}

TEST_F(Eval, PairsWithDenseAndSaysTheDifference) {
  const std::vector<std::string> paired = {"--length", "300",         "--samples",       "2", "--questions", "later",
                                           "--paired", "--attention", "snapkv:budget=32"};
  std::vector<std::string> as_json = paired;
  as_json.push_back("--json");
  const Json result = json(command("nll", as_json));
  EXPECT_GT(result["kl"].get<double>(), 0);
  EXPECT_NEAR(result["difference"].get<double>(),
              result["score"].get<double>() - result["dense"]["score"].get<double>(), 1e-9);
  EXPECT_EQ(result["difference_interval"].size(), 2u);
  EXPECT_THAT(run(command("nll", paired)).out,
              AllOf(HasSubstr("nll "), HasSubstr("kl from dense"), HasSubstr("dense ")));
}

TEST_F(Eval, ShowsARowForEachSampleWithV) {
  const Ended ended = run(command("passkey", {"--length", "400", "--samples", "2", "--depth", "0.5", "-v"}));
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out, AllOf(HasSubstr("SAMPLE"), HasSubstr("passkey  score")));
  EXPECT_EQ(std::count(ended.out.begin(), ended.out.end(), '\n'), 4);
}

TEST_F(Eval, RefusesWhatIsNotThere) {
  EXPECT_THAT(fails(2, command("passkei", {})), HasSubstr("nearest: passkey"));
  EXPECT_THAT(fails(2, command("niah", {"--length", "64"})), AllOf(HasSubstr("64 tokens"), HasSubstr("--length")));
  EXPECT_THAT(fails(65, command("niah", {"--length", "600"})), AllOf(HasSubstr("600 tokens"), HasSubstr("512")));
  EXPECT_THAT(fails(2, command("niah", {"--depth", "1.5"})), HasSubstr("--depth"));
  EXPECT_THAT(fails(2, command("niah", {"--attention", "snapkw"})), HasSubstr("snapkv"));
  EXPECT_THAT(fails(66, {"eval", "niah", "-m", kTiny, "--haystack", path("none.txt")}), HasSubstr("none.txt"));
}

TEST_F(Eval, ListsItsTasks) {
  const std::string help = run({"eval", "--help"}).out;
  for (const char* task :
       {"passkey", "niah", "multikey", "multivalue", "vt", "cwe", "fwe", "kv-retrieval", "copy", "nll", "qa"})
    EXPECT_THAT(help, HasSubstr("\n  " + std::string(task) + " ")) << help;
}

TEST_F(Eval, HidesThingsInTheUsersText) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "Line of the user. ";
  const Json result = json({"eval", "passkey", "-m", kTiny, "--haystack", file("mine.txt", text), "--length", "400",
                            "--samples", "1", "--json", "-q"});
  EXPECT_THAT(result["haystack"].get<std::string>(), HasSubstr("mine.txt"));
}

}  // namespace cli_eval_test
}  // namespace fovea
