// fovea tokenize and fovea detokenize as a script meets them.
#include <sstream>

#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_tokenize_test {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

std::vector<int> ids_of(const Json& out) {
  std::vector<int> ids;
  for (const Json& token : out["tokens"]) ids.push_back(token["id"]);
  return ids;
}

TEST_F(Cli, TokenizeGivesIdsAndPieces) {
  const Json out = json({"tokenize", "--json", "-m", kTiny, "the fox"});
  std::string text;
  for (const Json& token : out["tokens"]) text += token["piece"].get<std::string>();
  EXPECT_EQ(text, "the fox");
  EXPECT_LT(out["tokens"].size(), 7u);  // some letters were merged
  const Ended plain = run({"tokenize", "-m", kTiny, "the fox"});
  EXPECT_EQ(std::count(plain.out.begin(), plain.out.end(), '\n'), static_cast<long>(out["tokens"].size()));
  EXPECT_THAT(plain.out, HasSubstr("\" fox\""));
  EXPECT_EQ(json({"tokenize", "--json", "-m", kTiny, ""})["tokens"], Json::array());
}

TEST_F(Cli, APieceOfACharacterIsGivenAsBytes) {
  const Json out = json({"tokenize", "--json", "-m", kTiny, "\xC3\xA9"});
  ASSERT_EQ(out["tokens"].size(), 2u);
  EXPECT_EQ(out["tokens"][0]["piece"], "\xEF\xBF\xBD");
  EXPECT_EQ(out["tokens"][0]["bytes"], Json({0xC3}));
  EXPECT_EQ(out["tokens"][1]["bytes"], Json({0xA9}));
  EXPECT_FALSE(json({"tokenize", "--json", "-m", kTiny, "e"})["tokens"][0].contains("bytes"));
}

TEST_F(Cli, T1_T3_AnyBytesOfAFileComeBack) {
  std::string bytes(1, '\0');
  for (int i = 255; i >= 0; --i) bytes += static_cast<char>(i);
  bytes += "\xEF\xBB\xBF the \xF0\x9F\x99\x82\r\n";
  const std::string text = file("text", bytes), ids = path("ids");
  ASSERT_EQ(run({"tokenize", "--json", "-m", kTiny, "-f", text}, ids).code, 0);
  EXPECT_EQ(run({"detokenize", "-m", kTiny, "-f", ids}).out, bytes);
  stdin_ = text;
  EXPECT_EQ(ids_of(json({"tokenize", "--json", "-m", kTiny, "-f", "-"})), ids_of(Json::parse(read_file(ids).value())));
  stdin_ = ids;
  const Json back = json({"detokenize", "--json", "-m", kTiny, "-f", "-"});
  EXPECT_EQ(back["bytes"].get<std::vector<uint8_t>>(), std::vector<uint8_t>(bytes.begin(), bytes.end()));
  EXPECT_THAT(back["text"].get<std::string>(), HasSubstr(" the \xF0\x9F\x99\x82\r\n"));
}

TEST_F(Cli, T4_ControlTokensAreTextUnlessAskedFor) {
  EXPECT_GT(ids_of(json({"tokenize", "--json", "-m", kTiny, "<|im_end|>"})).size(), 1u);
  EXPECT_EQ(ids_of(json({"tokenize", "--json", "-m", kTiny, "--parse-special", "<|im_end|>"})), std::vector<int>{2});
  EXPECT_EQ(run({"detokenize", "-m", kTiny, "2"}).out, "<|im_end|>");
  EXPECT_EQ(run({"detokenize", "-m", kTiny, "--no-special", "2"}).out, "");
}

TEST_F(Cli, DetokenizeReadsNumbersAndJson) {
  const auto ids = ids_of(json({"tokenize", "--json", "-m", kTiny, "the fox"}));
  std::vector<std::string> words = {"detokenize", "-m", kTiny};
  for (const int id : ids) words.push_back(std::to_string(id));
  EXPECT_EQ(run(words).out, "the fox");
  EXPECT_EQ(json([&] {
              auto w = words;
              w.push_back("--json");
              return w;
            }()),
            Json({{"text", "the fox"}}));
  EXPECT_EQ(run({"detokenize", "-m", kTiny, "-f", file("a", Json(ids).dump())}).out, "the fox");
  EXPECT_EQ(run({"detokenize", "-m", kTiny, "-f", file("b", Json({{"tokens", ids}}).dump(2))}).out, "the fox");
  std::string lines;
  for (const int id : ids) lines += std::to_string(id) + ",\n";
  EXPECT_EQ(run({"detokenize", "-m", kTiny, "-f", file("c", lines)}).out, "the fox");
  EXPECT_EQ(run({"detokenize", "-m", kTiny, "-f", file("d", " \n")}).out, "");
}

TEST_F(Cli, T5_WhatIsNoTokenIsNamedWithItsPlace) {
  for (const char* bad : {"-1", "300", "2147483648", "99999999999999999999", "1.5", "x", "1e2"}) {
    EXPECT_THAT(fails(2, {"detokenize", "-m", kTiny, "--", "5", bad}), AllOf(HasSubstr("token 1 "), HasSubstr(bad)))
        << bad;
    EXPECT_THAT(fails(2, {"detokenize", "-m", kTiny, "-f", file("ids", std::string("5 ") + bad)}),
                HasSubstr("token 1 "))
        << bad;
  }
  EXPECT_THAT(fails(2, {"detokenize", "-m", kTiny, "-f", file("json", R"([5, {"id": 300}])")}),
              AllOf(HasSubstr("token 1 "), HasSubstr("300")));
  for (const char* bad : {R"([5, "7"])", R"([5, null])", R"([5, [7]])", R"([5, {"piece": "x"}])"}) {
    EXPECT_THAT(fails(2, {"detokenize", "-m", kTiny, "-f", file("json", bad)}), HasSubstr("token 1 ")) << bad;
  }
  for (const char* bad : {"[5,", "{}", R"({"tokens": 5})", "{\"tokens\": [5]} x"}) {
    EXPECT_THAT(fails(65, {"detokenize", "-m", kTiny, "-f", file("json", bad)}), HasSubstr("json")) << bad;
  }
}

TEST_F(Cli, TokenizeWantsOneTextAndOneModel) {
  EXPECT_THAT(fails(2, {"tokenize", "-m", kTiny}), HasSubstr("TEXT"));
  EXPECT_THAT(fails(2, {"tokenize", "-m", kTiny, "-f", kTiny, "text"}), HasSubstr("TEXT"));
  EXPECT_THAT(fails(2, {"tokenize", "text"}), HasSubstr("--model"));
  EXPECT_THAT(fails(2, {"detokenize", "-m", kTiny}), HasSubstr("--file"));
  EXPECT_THAT(fails(2, {"detokenize", "-m", kTiny, "5", "-f", kTiny}), HasSubstr("--file"));
  EXPECT_THAT(fails(66, {"tokenize", "-m", kTiny, "-f", path("none")}), HasSubstr("none"));
  EXPECT_THAT(fails(66, {"tokenize", "-m", "none", "text"}), HasSubstr("none"));
}

}  // namespace cli_tokenize_test
}  // namespace fovea
