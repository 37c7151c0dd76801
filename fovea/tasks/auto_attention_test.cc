#include "fovea/tasks/auto_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "fovea/base/file.h"

namespace fovea::tasks {
namespace auto_attention_test {

using nlohmann::json;
using ::testing::HasSubstr;

const attention::ModelShape kShape{.n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 32, .n_ctx = 32768};

// times: as fast as dense; nll: its loss (dense: 2); recall: of niah, which dense solves.
BoardRow row(const std::string& method, double times, double nll, double recall, double kv = 1) {
  BoardRow out;
  out.method = method;
  out.cells = {{"niah", recall, 1.0}, {"vt", 0.0, 0.3}};
  out.nll = nll, out.nll_delta = nll - 2;
  out.dense_prefill_seconds = 20, out.dense_decode_seconds = 0.02;
  out.prefill_seconds = 20 / times, out.decode_seconds = 0.02 / times;
  out.kv_bytes = static_cast<uint64_t>(1000 * kv), out.dense_kv_bytes = 1000;
  return out;
}

std::vector<MeasuredBoard> boards() {
  const auto key = [](int length) {
    return json{{"length", length}, {"model_sha256", "abc"}, {"numerics", "fast"}, {"cache_type", "i16"}};
  };
  return {{key(4000), {row("dense", 1, 2, 1), row("xattention:threshold=0.9", 1.05, 2.0, 1)}},
          {key(8000),
           {row("dense", 1, 2, 1), row("xattention:threshold=0.9", 1.5, 2.01, 1),
            row("xattention:threshold=0.5", 2.5, 2.1, 1),   // 5 % of loss
            row("snapkv:keep=0.1", 2.0, 2.0, 0.5, 0.1)}}};  // half of the needles
}

AutoChoice choose(int64_t n_tokens, const std::string& spec = "auto") {
  const auto all = boards();
  AutoRequest request;
  request.bound = parse_auto(spec).value().value();
  request.n_tokens = n_tokens;
  return choose_attention(all, kShape, request);
}

TEST(AutoAttention, TakesTheFastestThatKeepsTheBounds) {
  const AutoChoice choice = choose(9000);
  EXPECT_EQ(choice.spec, "xattention:threshold=0.9");
  EXPECT_EQ(choice.measured_at, 8000);
  EXPECT_NEAR(choice.speedup, 1.5, 1e-9);
  EXPECT_THAT(choice.why, HasSubstr("1.5 times"));
  EXPECT_EQ(choose(9000, "auto:nll=6").spec, "xattention:threshold=0.5");
  EXPECT_EQ(choose(9000, "auto:nll=0:recall=50").spec, "snapkv:keep=0.1");
}

TEST(AutoAttention, IsDenseWhereNothingPays) {
  EXPECT_EQ(choose(500).spec, "dense");
  EXPECT_THAT(choose(500).why, HasSubstr("measured from 4000 on"));
  EXPECT_EQ(choose(4000).spec, "dense") << "1.05 times is not enough";
  EXPECT_THAT(choose(4000).why, HasSubstr("faster"));
  EXPECT_EQ(choose(9000, "auto:nll=0:recall=0").spec, "dense");
  EXPECT_THAT(choose(9000, "auto:nll=0:recall=0").why, HasSubstr("none of 3"));
  EXPECT_EQ(choose(0).spec, "dense");
  EXPECT_THAT(choose_attention({}, kShape, {.n_tokens = 9000}).why, HasSubstr("fovea leaderboard --length 9000"));
}

TEST(AutoAttention, LeavesDenseWhereItDoesNotFit) {
  const auto all = boards();
  AutoRequest request;
  request.n_tokens = 9000, request.dense_kv_bytes = 1000, request.available_bytes = 500;
  const AutoChoice small = choose_attention(all, kShape, request);
  EXPECT_EQ(small.spec, "snapkv:keep=0.1") << "the only one that fits";
  EXPECT_THAT(small.why, HasSubstr("memory"));
  request.n_tokens = 40'000;  // past the window: none of the rows reads that far
  request.available_bytes = 0;
  const AutoChoice past = choose_attention({}, kShape, request);
  EXPECT_NE(past.spec, "dense");
  EXPECT_THAT(past.why, HasSubstr("trained for"));
}

TEST(AutoAttention, RefusesBoundsThatAreNone) {
  EXPECT_FALSE(parse_auto("dense").value().has_value());
  EXPECT_FALSE(parse_auto("auto-x").value().has_value());
  EXPECT_EQ(parse_auto("auto:nll=0.5:recall=4").value()->recall, 4);
  for (const char* bad : {"auto:loss=1", "auto:nll", "auto:nll=-1", "auto:recall=x", "auto:nll=nan", "auto:"})
    EXPECT_EQ(parse_auto(bad).error().code, ErrorCode::kUsage) << bad;
  EXPECT_THAT(parse_auto("auto:loss=1").error().message, HasSubstr("loss"));
}

TEST(AutoAttention, ReadsBoardsOfItsModelAndPassesOverDamagedOnes) {
  const std::string cache = ::testing::TempDir() + "/auto-attention";
  std::filesystem::remove_all(cache);
  setenv("XDG_CACHE_HOME", cache.c_str(), 1);
  EXPECT_TRUE(measured_boards("abc", "fast", "i16").empty());
  const std::string dir = cache + "/fovea/leaderboard";
  std::filesystem::create_directories(dir);
  std::filesystem::permissions(dir, std::filesystem::perms::owner_all);
  int n = 0;
  for (const MeasuredBoard& board : boards()) {
    json file{{"key", board.key}, {"rows", json::array()}};
    for (const BoardRow& each : board.rows) file["rows"].push_back(to_json(each));
    ASSERT_TRUE(write_file_atomic(dir + "/" + std::to_string(n++) + ".json", file.dump()));
    file["rows"][0]["prefill_seconds"] = 0;
    ASSERT_TRUE(write_file_atomic(dir + "/bad" + std::to_string(n) + ".json", file.dump()));
  }
  ASSERT_TRUE(write_file_atomic(dir + "/empty.json", ""));
  const auto found = measured_boards("abc", "fast", "i16");
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[1].rows[1].method, "xattention:threshold=0.9");
  EXPECT_TRUE(measured_boards("abc", "exact", "f32").empty());
  EXPECT_TRUE(measured_boards("abd", "fast", "i16").empty());
  unsetenv("XDG_CACHE_HOME");
}

TEST(AutoAttention, BoardsThatAreBuiltInAreWhole) {
  for (const ShippedBoard& shipped : shipped_boards()) {
    const auto board = parse_board(json::parse(shipped.json), std::string(shipped.file_name));
    ASSERT_TRUE(board.has_value()) << board.error().message;
    EXPECT_GE(board->rows.size(), 2u) << shipped.file_name;
  }
}

}  // namespace auto_attention_test
}  // namespace fovea::tasks
