// `fovea leaderboard`: the keys of its rows, its page, and that a second run measures nothing.
#include "fovea/base/file.h"
#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_leaderboard_test {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

class Leaderboard : public Cli {
 protected:
  std::vector<std::string> command(const std::vector<std::string>& more) {
    std::vector<std::string> out = {"leaderboard", "-m", kTiny,     "--length", "400", "--samples",      "1",
                                    "-r",          "1",  "--tasks", "passkey",  "-o",  path("rows.json")};
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }
};

TEST_F(Leaderboard, GivesTheKeysThatScriptsRelyOnAndKeepsRows) {
  const std::vector<std::string> as_json =
      command({"--methods", "snapkv:keep=0.25;xattention:threshold=0.9", "--json", "--html", path("board.html"), "-q"});
  const Json first = json(as_json);
  ASSERT_EQ(first["rows"].size(), 3u);
  for (const Json& row : first["rows"]) {
    for (const char* key : {"method", "score", "nll_delta", "prefill_speedup", "decode_speedup", "kv_ratio"})
      EXPECT_TRUE(row.contains(key)) << key;
  }
  EXPECT_LT(first["rows"][1]["kv_ratio"].get<double>(), 0.5);
  const auto page = read_file(path("board.html"));
  ASSERT_TRUE(page.has_value()) << page.error().message;
  EXPECT_THAT(*page, AllOf(HasSubstr("<svg"), HasSubstr("snapkv:keep=0.25")));
  const Json second = json(as_json);
  EXPECT_EQ(second["kept"], 3);
  EXPECT_EQ(second["rows"], first["rows"]);
  EXPECT_THAT(run(command({"--methods", "snapkv:keep=0.25", "-q"})).out,
              AllOf(HasSubstr("METHOD"), HasSubstr("passkey?")));
}

TEST_F(Leaderboard, RefusesRowsOfAnotherSettingAndUnknownTasks) {
  json(command({"--methods", "dense", "--json", "-q"}));
  EXPECT_THAT(fails(2, command({"--methods", "dense", "--seed", "9", "-q"})),
              AllOf(HasSubstr("rows.json"), HasSubstr("--again")));
  EXPECT_THAT(fails(2, command({"--tasks", "passkei", "--again", "-q"})), HasSubstr("passkey"));
}

}  // namespace cli_leaderboard_test
}  // namespace fovea
