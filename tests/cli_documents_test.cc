// Texts by many names: several files, folders, patterns, and a conversation about them.
#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_documents_test {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

class CliDocuments : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    fs::create_directories(root_ / "f");
    a_ = file("f/a.txt", "The cat is red.\n");
    b_ = file("f/b.txt", "The dog is blue.\n");
  }
  // What is asked of which files: tokens of the prompt tell.
  int prompt_tokens(const std::vector<std::string>& more) {
    std::vector<std::string> args = {"ask", "-m", kTiny, "-n", "1", "--json"};
    args.insert(args.end(), more.begin(), more.end());
    return json(args)["cost"]["prompt_tokens"].get<int>();
  }
  std::string a_, b_;
};

TEST_F(CliDocuments, AskTakesSeveralFilesPatternsAndFolders) {
  const int both = prompt_tokens({"--file", a_, "--file", b_, "Which colour?"});
  EXPECT_GT(both, prompt_tokens({"-f", a_, "Which colour?"}));
  EXPECT_EQ(prompt_tokens({"-f", a_, b_, "Which colour?"}), both);
  EXPECT_EQ(prompt_tokens({"Which colour?", "-f", a_, b_}), both);
  EXPECT_EQ(prompt_tokens({"-f", a_, "Which colour?", "-f", b_}), both);
  EXPECT_EQ(prompt_tokens({"-f", path("f/*.txt"), "Which colour?"}), both);
  EXPECT_EQ(prompt_tokens({"-f", path("f"), "Which colour?"}), both);
}

TEST_F(CliDocuments, TheQuestionStandsFirstOrLast) {
  EXPECT_THAT(fails(2, {"ask", "-m", kTiny, "-f", a_, b_}),
              AllOf(HasSubstr("QUESTION is missing"), HasSubstr("b.txt")));
  EXPECT_THAT(fails(2, {"ask", "-m", kTiny, "Which", "colour?", "-f", a_}), HasSubstr("\"colour?\""));
  EXPECT_THAT(fails(2, {"ask", "-m", kTiny, "Which?"}), HasSubstr("--file"));
  EXPECT_THAT(fails(66, {"ask", "-m", kTiny, "-f", a_, "no.txt", "Which?"}), HasSubstr("no.txt"));
  EXPECT_THAT(fails(66, {"ask", "-m", kTiny, "-f", path("*.none"), "Which?"}), HasSubstr("no file has such a name"));
}

TEST_F(CliDocuments, WhatIsNoTextInAFolderIsNamedAndSkipped) {
  (void)file("f/c.png", std::string("\x89PNG\0\0", 6));
  const Ended ended = run({"ask", "-m", kTiny, "-f", path("f"), "Which colour?", "-n", "1"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.err, AllOf(HasSubstr("warning: skipped"), HasSubstr("c.png")));
  fs::create_directories(root_ / "images");
  (void)file("images/c.png", std::string("\x89PNG\0\0", 6));
  EXPECT_THAT(fails(65, {"ask", "-m", kTiny, "-f", path("images"), "Which?", "-n", "1"}), HasSubstr("images"));
  EXPECT_THAT(fails(65, {"ask", "-m", kTiny, "-f", path("images/c.png"), "Which?", "-n", "1"}), HasSubstr("c.png"));
}

TEST_F(CliDocuments, AChatAboutTextsShowsItsEvidenceWhenAsked) {
  stdin_ = file("turns", "Which colour?\n/evidence\nAnd the dog?\n/evidence\n/clear\nWhich colour?\n");
  const std::vector<std::string> args = {"chat",           "-m", kTiny, "-f", a_, b_, "-n", "6", "--temp", "0",
                                         "--prefix-cache", "off"};
  const Ended ended = run(args);
  ASSERT_EQ(ended.code, 0) << ended.err;
  size_t n_shown = 0;
  for (size_t at = 0; (at = ended.out.find("\nevidence\n", at)) != std::string::npos; ++at) ++n_shown;
  EXPECT_EQ(n_shown, 2u) << ended.out;
  EXPECT_THAT(ended.out, HasSubstr(".txt:1  "));
  std::vector<std::string> with_json = args;
  with_json.emplace_back("--json");
  const Json turns = json(with_json)["turns"];
  ASSERT_EQ(turns.size(), 3u);
  for (const Json& turn : turns) {
    ASSERT_FALSE(turn["evidence"].empty());
    EXPECT_EQ(turn["evidence"][0]["line_start"], 1);
    EXPECT_THAT(turn["evidence"][0]["text"].get<std::string>(), HasSubstr("The "));
  }
  EXPECT_EQ(turns[0]["text"], turns[2]["text"]);  // nothing of the second turn is left
  EXPECT_EQ(turns[0]["evidence"], turns[2]["evidence"]);
  EXPECT_LT(turns[1]["timings"]["prompt_n"], turns[0]["timings"]["prompt_n"]);  // the texts are not read again
}

TEST_F(CliDocuments, AChatAboutTextsAnswersAsAskDoes) {
  stdin_ = file("turns", "Which colour?\n");
  const Json ask = json({"ask", "-m", kTiny, "-f", a_, b_, "Which colour?", "-n", "6", "--json"});
  const Json turn = json({"chat", "-m", kTiny, "-f", a_, b_, "-n", "6", "--temp", "0", "--json"})["turns"][0];
  EXPECT_EQ(turn["text"], ask["answer"]);
  EXPECT_EQ(turn["evidence"], ask["evidence"]);
}

TEST_F(CliDocuments, AChatSaysWhatItCannotShow) {
  stdin_ = file("turns", "/evidence\n/what\n/help\nhello\n");
  const Ended ended = run({"chat", "-m", kTiny, "-n", "2"});
  EXPECT_EQ(ended.code, 0);
  EXPECT_THAT(ended.err, AllOf(HasSubstr("no text to show evidence from"), HasSubstr("unknown command \"/what\""),
                               HasSubstr("/clear begins")));
  EXPECT_THAT(fails(2, {"chat"}), HasSubstr("--model"));
  EXPECT_THAT(fails(2, {"chat", "-m", kTiny, "hello"}), HasSubstr("\"hello\""));
  EXPECT_THAT(fails(2, {"chat", "-m", kTiny, "-f", "-"}), HasSubstr("standard input"));
  EXPECT_THAT(fails(66, {"chat", "-m", kTiny, "-f", path("none")}), HasSubstr("none"));
}

TEST_F(CliDocuments, CaptureNamesAnEmptyHookAndKeepsNoMoreKeysThanThereAre) {
  EXPECT_THAT(fails(2, {"capture", "-m", kTiny, "x", "--hooks", ",", "--estimate"}), HasSubstr("is empty"));
  EXPECT_THAT(fails(2, {"capture", "-m", kTiny, "x", "--hooks", "q0,,k0", "--estimate"}), HasSubstr("is empty"));
  EXPECT_THAT(fails(2, {"capture", "-m", kTiny, "x", "--hooks", "", "--estimate"}), HasSubstr("is empty"));
  const Json out = json({"capture", "-m", kTiny, "ab", "--hooks", "pattern0", "--reduce", "topk:100000", "--json", "-o",
                         path("x.safetensors")});
  const auto n = out["n_tokens"].get<int>();
  EXPECT_EQ(out["hooks"][0]["shape"], Json({4, n, n}));
  EXPECT_LT(fs::file_size(path("x.safetensors")), 10'000u);
}

}  // namespace cli_documents_test
}  // namespace fovea
