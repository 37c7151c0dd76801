#include "fovea/tasks/leaderboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "fovea/attention/method.h"
#include "fovea/attention/pipeline.h"
#include "fovea/base/file.h"
#include "fovea/engine/testing/golden.h"

namespace fovea::tasks {
namespace leaderboard_test {

using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class Leaderboard : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = engine::load_model(engine::test_data("tiny-llama.gguf"));
    ASSERT_NE(model_, nullptr);
    path_ = ::testing::TempDir() + "/leaderboard-" + ::testing::UnitTest::GetInstance()->current_test_info()->name() +
            ".json";
    std::filesystem::remove(path_);
    options_.specs = {"snapkv:keep=0.25", "moa:plan=profile", "scale:value=1"};
    options_.tasks = {"passkey"}, options_.length = 400, options_.samples = 1, options_.repetitions = 1;
    options_.n_decode = 4, options_.path = path_, options_.key = {{"length", 400}};
    options_.on_row = [this](const std::string& method, size_t, size_t) { began_.push_back(method); };
  }
  void TearDown() override { std::filesystem::remove(path_); }
  Result<Board> run() {
    began_.clear();
    const OpenSession open = [&](std::string_view attention) {
      engine::SessionOptions session;
      session.attention = attention;
      return engine::Session::create(model_, session);
    };
    return run_leaderboard(*model_, open, options_);
  }

  std::shared_ptr<const engine::Model> model_;
  BoardOptions options_;
  std::string path_;
  std::vector<std::string> began_;
};

size_t read_board_rows(const std::string& path) {
  return nlohmann::json::parse(read_file(path).value())["rows"].size();
}

TEST_F(Leaderboard, MeasuresBytesInTheCacheAndLossAgainstDense) {
  const auto board = run();
  ASSERT_TRUE(board.has_value()) << board.error().message;
  ASSERT_EQ(board->rows.size(), 3u);
  const BoardRow &dense = board->rows[0], &snapkv = board->rows[1], &idle = board->rows[2];
  EXPECT_EQ(dense.method, "dense");
  EXPECT_EQ(dense.kv_ratio(), 1);
  EXPECT_EQ(dense.nll_delta, 0);
  EXPECT_GT(snapkv.kv_ratio(), 0);
  EXPECT_LT(snapkv.kv_ratio(), 0.5);
  EXPECT_NE(snapkv.nll_delta, 0);
  EXPECT_EQ(idle.nll_delta, 0) << "scale by 1 is dense";
  EXPECT_GT(idle.prefill_speedup(), 0);
  ASSERT_EQ(board->left_out.size(), 1u);
  EXPECT_EQ(board->left_out[0].method, "moa:plan=profile");
  EXPECT_THAT(board->left_out[0].why, HasSubstr("profile"));
  const std::string page = leaderboard_page(*board, "A <title>", "setting");
  EXPECT_THAT(page, HasSubstr("A &lt;title&gt;"));
  EXPECT_THAT(page, HasSubstr("<circle"));
  EXPECT_THAT(page, Not(HasSubstr("http")));
}

TEST_F(Leaderboard, GoesOnWhereItWas) {
  const std::atomic<bool> stop = true;
  ASSERT_TRUE(run().has_value());
  options_.specs.push_back("snapkv:keep=0.5");
  const auto more = run();
  ASSERT_TRUE(more.has_value()) << more.error().message;
  EXPECT_EQ(more->n_kept, 3u);
  EXPECT_THAT(began_, testing::ElementsAre("moa:plan=profile", "snapkv:keep=0.5"));
  options_.specs.push_back("h2o:budget=64");
  options_.cancel = &stop;
  EXPECT_EQ(run().error().code, ErrorCode::kCancelled);
  options_.cancel = nullptr, options_.specs = {"snapkv:keep=0.5"}, options_.retime = true;
  const auto timed = run();
  ASSERT_TRUE(timed.has_value()) << timed.error().message;
  EXPECT_EQ(timed->n_kept, 2u);
  EXPECT_THAT(began_, testing::ElementsAre("dense", "snapkv:keep=0.5"));
  EXPECT_NE(timed->rows[1].prefill_seconds, more->rows[3].prefill_seconds);
  EXPECT_EQ(timed->rows[1].nll, more->rows[3].nll);
  EXPECT_EQ(read_board_rows(path_), 4u) << "none twice";
  options_.retime = false, options_.again = true;
  EXPECT_EQ(run()->n_kept, 0u);
}

TEST_F(Leaderboard, RefusesAFileOfOtherRows) {
  options_.specs = {};
  ASSERT_TRUE(run().has_value());
  options_.key = {{"length", 500}};
  const auto other = run();
  ASSERT_FALSE(other.has_value());
  EXPECT_EQ(other.error().code, ErrorCode::kUsage);
  EXPECT_THAT(other.error().message, HasSubstr(path_));
  ASSERT_TRUE(write_file_atomic(path_, R"({"key": {"length": 500}, "rows": [{"method": "dense"}]})"));
  EXPECT_THAT(run().error().message, HasSubstr("damaged"));
}

TEST(LeaderboardSpecs, PutInSharesOfTheLength) {
  EXPECT_EQ(at_length("window={0.25}:full=0.5:n={0.1}", 1000), "window=250:full=0.5:n=100");
  EXPECT_EQ(at_length("n={0.001}", 10), "n=1");
}

TEST(LeaderboardSpecs, AreOnesThatTheirMethodsTake) {
  const attention::ModelShape shape{.n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 32, .n_ctx = 4096};
  const auto specs = leaderboard_specs(1000);
  for (const std::string& spec : specs) {
    const auto pipeline = attention::Pipeline::parse(spec, shape);
    if (!pipeline) {
      EXPECT_THAT(pipeline.error().message, AnyOf(HasSubstr("profile"), HasSubstr("gates"))) << spec;
    }
  }
  EXPECT_THAT(specs, Contains("snapkv:keep=0.25"));
  EXPECT_THAT(specs, Contains("xattention:threshold=0.9,snapkv:keep=0.25"));
  EXPECT_THAT(specs, Not(Contains(StartsWith("scale"))));
}

TEST(LeaderboardRow, CountsOnlyTasksThatDenseSolves) {
  BoardRow row;
  row.cells = {{"niah", 0.5, 1.0}, {"vt", 0.9, 0.6}};
  EXPECT_EQ(row.score(), 0.5);
  row.cells = {{"vt", 0.9, 0.6}};
  EXPECT_FALSE(row.score().has_value());
  EXPECT_TRUE(to_json(row)["score"].is_null());
}

}  // namespace leaderboard_test
}  // namespace fovea::tasks
