// fovea capture: what lands in the file, what is refused and how.
#include <cstring>
#include <filesystem>

#include "fovea/base/file.h"
#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_capture_test {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

class CaptureCommand : public Cli {
 protected:
  static std::vector<std::string> with(std::vector<std::string> args, const std::vector<std::string>& more) {
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  std::vector<std::string> capture(const std::vector<std::string>& more) const {
    return with({"capture", "-m", kTiny, "-o", path("x.safetensors"), "-q"}, more);
  }
  Json header() const {
    const std::string bytes = read_file(path("x.safetensors")).value();
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    return Json::parse(bytes.substr(8, length));
  }
  bool written() const { return std::filesystem::exists(path("x.safetensors")); }
};

TEST_F(CaptureCommand, WritesWhatItSays) {
  const Json out = json(
      capture({"some words here", "--hooks", "q0,blocks.*.hook_resid_post,unembed.hook_out", "--json", "-b", "2"}));
  EXPECT_EQ(out["path"], path("x.safetensors"));
  const auto n = out["n_tokens"].get<int64_t>();
  ASSERT_EQ(out["hooks"].size(), 4u);
  EXPECT_EQ(out["hooks"][0]["name"], "blocks.0.attn.hook_q");
  EXPECT_EQ(out["hooks"][0]["dtype"], "F32");
  EXPECT_EQ(out["hooks"][0]["shape"], Json::parse("[" + std::to_string(n) + ", 4, 16]"));
  const Json file = header();
  for (const Json& hook : out["hooks"]) {
    EXPECT_EQ(file[hook["name"].get<std::string>()]["shape"], hook["shape"]);
    EXPECT_EQ(file[hook["name"].get<std::string>()]["dtype"], hook["dtype"]);
  }
  EXPECT_EQ(Json::parse(file["__metadata__"]["tokens"].get<std::string>()).size(), static_cast<size_t>(n));
}

TEST_F(CaptureCommand, ReducedPatternsAreNamedAfterTheirReducer) {
  json(capture({"-f", file("text", "some words here"), "--hooks", "*pattern", "--reduce", "topk:2", "--heads", "0.1+1",
                "--json"}));
  const Json file = header();
  EXPECT_EQ(file["blocks.0.attn.hook_pattern.topk"]["shape"][0], 1);
  EXPECT_EQ(file["blocks.1.attn.hook_pattern.topk_positions"]["dtype"], "I32");
  EXPECT_EQ(file["__metadata__"]["reduce"], "topk:2");
  EXPECT_EQ(file["__metadata__"]["blocks.0.attn.hook_pattern.topk.heads"], "1");
}

TEST_F(CaptureCommand, AnEstimateWritesNothing) {
  const Json out = json({"capture", "-m", kTiny, "some words here", "--hooks", "*pattern", "--estimate", "--json"});
  const auto n = out["n_tokens"].get<uint64_t>();
  EXPECT_EQ(out["bytes"], 2 * 4 * n * n * 4);
  EXPECT_EQ(out["fits"], true);
  EXPECT_TRUE(out["path"].is_null());
  EXPECT_FALSE(written());
}

TEST_F(CaptureCommand, A1_AnUnknownHookIsRefusedWithTheNearest) {
  EXPECT_THAT(fails(2, capture({"x", "--hooks", "blocks.0.attn.hook_patern"})),
              HasSubstr("blocks.0.attn.hook_pattern"));
  EXPECT_THAT(fails(2, capture({"x", "--hooks", "nothing.*"})), HasSubstr("nothing.*"));
  EXPECT_THAT(fails(2, capture({"x", "--hooks", "blocks.99.hook_resid_pre"})),
              AllOf(HasSubstr("99"), HasSubstr("0 to 1")));
  EXPECT_THAT(fails(2, capture({"x", "--hooks", "hook_pos_embed"})), HasSubstr("rotating"));
  EXPECT_THAT(fails(2, capture({"x", "--hooks", "pattern0", "--heads", "0.99"})), HasSubstr("99"));
  EXPECT_THAT(fails(2, capture({"x", "--hooks", "pattern0", "--reduce", "topk:0"})), HasSubstr("topk"));
  EXPECT_FALSE(written());
}

TEST_F(CaptureCommand, A3_TooMuchIsRefusedWithTheSizesAndAdvice) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "word ";
  const std::string message =
      fails(65, capture({"-f", file("text", text), "--hooks", "*pattern", "--max-bytes", "10k"}));
  EXPECT_THAT(message, AllOf(HasSubstr("10.0 kB"), HasSubstr("--reduce"), HasSubstr("--max-bytes")));
  EXPECT_FALSE(written());
}

TEST_F(CaptureCommand, AnOutputThatCannotBeIsSaidBeforeTheWork) {
  EXPECT_THAT(fails(2, {"capture", "-m", kTiny, "x", "--hooks", "q0"}), HasSubstr("--output"));
  EXPECT_THAT(fails(66, {"capture", "-m", kTiny, "x", "--hooks", "q0", "-o", path("no/x")}), HasSubstr("no folder"));
  EXPECT_THAT(fails(2, {"capture", "-m", kTiny, "x", "--hooks", "q0", "-o", root_.string()}), HasSubstr("is a folder"));
  EXPECT_THAT(fails(2, capture({"", "--hooks", "q0", "--no-special"})), HasSubstr("no tokens"));
}

TEST_F(CaptureCommand, APromptOverTheContextIsRefusedWithBothNumbers) {
  EXPECT_THAT(fails(65, capture({"some words that do not fit", "--hooks", "q0", "-c", "4"})), HasSubstr("4"));
  EXPECT_FALSE(written());
}

TEST_F(CaptureCommand, TheOldFileStaysWhereANewOneFails) {
  file("x.safetensors", "old");
  fails(2, capture({"x", "--hooks", "nothing"}));
  EXPECT_EQ(read_file(path("x.safetensors")).value(), "old");
}

}  // namespace cli_capture_test
}  // namespace fovea
