// `fovea reproduce`: a paper's checks as people and scripts read them. The tiny model has random weights: what it does
// not show fails nothing.
#include <signal.h>

#include <chrono>
#include <set>
#include <thread>

#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_reproduce_test {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

class Reproduce : public Cli {
 protected:
  std::vector<std::string> cells() const {
    std::vector<std::string> out;
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(root_ / ".cache/fovea/papers/retrieval-heads", none)) {
      if (entry.path().extension() == ".json") out.push_back(entry.path().string());
    }
    return out;
  }
};

TEST_F(Reproduce, FastTakesATinyModelAndChecksEveryItem) {
  const Json report = json({"reproduce", "retrieval-heads", "--fast", "--json"});
  EXPECT_EQ(report["slug"], "retrieval-heads");
  EXPECT_THAT(report["model"].get<std::string>(), HasSubstr("tiny-llama.gguf"));
  EXPECT_EQ(report["passed"], true);
  std::set<int> items;
  for (const Json& check : report["checks"]) {
    for (const char* key : {"item", "name", "kind", "passed", "measured", "expected", "command"})
      EXPECT_TRUE(check.contains(key)) << check;
    items.insert(check["item"].get<int>());
    const bool is_shape = check["kind"] == "shape";
    EXPECT_TRUE(is_shape || check["passed"] == true) << check;
    EXPECT_THAT(check["command"].get<std::string>(), HasSubstr("fovea reproduce retrieval-heads"));
  }
  EXPECT_EQ(items, (std::set<int>{1, 2, 3, 4, 5}));
  EXPECT_EQ(report["model_sha256"].get<std::string>().size(), 64u);
  EXPECT_FALSE(cells().empty());

  // The next run takes the cells from there, and says the same but for times.
  const Ended again = run({"reproduce", "retrieval_heads", "--fast", "--json"});
  EXPECT_THAT(again.err, HasSubstr("kept from an earlier run"));
  Json second = Json::parse(again.out, nullptr, false);
  for (size_t i = 0; i < report["checks"].size(); ++i) {
    const bool timed = report["checks"][i]["name"].get<std::string>().find("time") != std::string::npos;
    EXPECT_TRUE(timed || second["checks"][i] == report["checks"][i]) << second["checks"][i];
  }
}

// As CI runs them: there is no model, and what must hold holds on a tiny one.
TEST_F(Reproduce, EveryPaperIsCheckedLineByLine) {
  const Json papers = json({"reproduce", "--json"})["papers"];
  ASSERT_GE(papers.size(), 3u);
  for (const Json& paper : papers) {
    const std::string slug = paper["slug"];
    SCOPED_TRACE(slug);
    const Json report = json({"reproduce", slug, "--fast", "-m", kTiny, "--json"});
    EXPECT_EQ(report["passed"], true);
    std::set<int> items;
    for (const char* list : {"checks", "skipped"}) {
      for (const Json& check : report[list]) items.insert(check["item"].get<int>());
    }
    EXPECT_EQ(items.size(), paper["items"].get<size_t>());
  }
}

// What their exact checks rest on is in the report as numbers, not as a verdict alone.
TEST_F(Reproduce, SaysHowManyKeysEachHeadKeeps) {
  const auto measured = [&](const std::string& slug, const std::string& item, const std::string& set) {
    const Json report = json({"reproduce", slug, "--fast", "-m", kTiny, "--item", item, "--set", set, "--json"});
    for (const Json& check : report["checks"]) {
      if (check["name"] == "keys and bytes") return check["measured"].get<std::string>();
    }
    return std::string("not measured");
  };
  EXPECT_THAT(measured("duo-attention", "2", "memory-window=8,40"), HasSubstr("2 heads of 450 keys and 2 of 47;"));
  EXPECT_THAT(measured("razor-attention", "3", "ratio=4"), HasSubstr("1 heads of 450 keys and 3 of 116;"));
  EXPECT_THAT(measured("razor-attention", "3", "buffer=200"), HasSubstr("3 of 204;"));
}

TEST_F(Reproduce, RunsOneItemInWordsAndWritesAPage) {
  const Ended ended =
      run({"reproduce", "retrieval-heads", "-m", kTiny, "--fast", "--item", "4", "--html", path("page.html")});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.out,
              AllOf(HasSubstr("planted heads, label elsewhere"), HasSubstr("left out"), Not(HasSubstr("\n1 "))));
  const std::string page = read_file(path("page.html")).value();
  EXPECT_THAT(page, AllOf(HasSubstr("<!doctype html>"), HasSubstr("weights shuffled"), Not(HasSubstr("http"))));
}

TEST_F(Reproduce, WithoutASlugListsAndRefusesWhatIsNotThere) {
  const Json papers = json({"reproduce", "--json"})["papers"];
  ASSERT_FALSE(papers.empty());
  for (const char* key : {"slug", "title", "paper", "items", "model", "settings"})
    EXPECT_TRUE(papers[0].contains(key)) << key;
  EXPECT_THAT(run({"reproduce"}).out, HasSubstr("retrieval-heads"));
  EXPECT_THAT(fails(2, {"reproduce", "retreival-heads"}), HasSubstr("retrieval-heads"));
  EXPECT_THAT(fails(66, {"reproduce", "retrieval-heads"}), HasSubstr("fovea pull qwen2.5-coder-0.5b"));
  const std::vector<std::string> tiny = {"reproduce", "retrieval-heads", "-m", kTiny, "-q"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), tiny.begin(), tiny.end());
    return more;
  };
  EXPECT_THAT(fails(2, with({"--set", "deep=1"})), AllOf(HasSubstr("deep"), HasSubstr("depths")));
  EXPECT_THAT(fails(2, with({"--set", "depths"})), HasSubstr("NAME=VALUE"));
  EXPECT_THAT(fails(2, with({"--item", "6"})), HasSubstr("1 to 5"));
  EXPECT_THAT(fails(2, with({"--html", "-", "--json"})), HasSubstr("--html"));
  EXPECT_THAT(fails(66, with({"--html", path("none/page.html")})), HasSubstr("--html"));
}

TEST_F(Reproduce, CtrlCKeepsTheCellsThatAreFinished) {
  const std::vector<std::string> args = {"reproduce", "retrieval-heads", "-m",    kTiny,
                                         "--set",     "depths=1",        "--set", "mask-depths=100"};
  const pid_t child = start(args);
  for (int i = 0; i < 1200 && cells().empty(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  kill(child, SIGINT);
  const Ended ended = finish(child);
  EXPECT_EQ(ended.code, 130) << ended.err;
  EXPECT_EQ(ended.out, "");
  const auto kept = cells();
  ASSERT_FALSE(kept.empty());
  const auto written = std::filesystem::last_write_time(kept[0]);
  const Ended next = run({"reproduce", "retrieval-heads", "-m", kTiny, "--set", "depths=1", "--set", "mask-depths=1"});
  EXPECT_EQ(next.code, 0) << next.err;
  EXPECT_THAT(next.err, HasSubstr("kept from an earlier run"));
  EXPECT_EQ(std::filesystem::last_write_time(kept[0]), written);
}

}  // namespace cli_reproduce_test
}  // namespace fovea
