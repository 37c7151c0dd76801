// fovea ask and fovea profile as a user or a script meets them. The tiny models answer nonsense: what
// is checked is the form of it; tools/ask_questions checks answers of the real ones.
#include "fovea/base/file.h"
#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_ask_test {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

class CliAsk : public Cli {
 protected:
  std::string text(const std::string& name, const std::string& bytes) {
    EXPECT_TRUE(write_file_atomic(path(name), bytes).has_value());
    return path(name);
  }
};

TEST_F(CliAsk, CountsTheBytesOfTheCacheTypeThatWasAskedFor) {
  const std::string a = text("a.txt", "The cat is red.\nThe dog is blue.\n");
  const auto bytes = [&](const std::string& type) {
    const Ended ended = run({"ask", "-m", kTiny, "-f", a, "Which colour?", "-n", "8", "--cache-type", type, "--json"});
    EXPECT_EQ(ended.code, 0) << ended.err;
    const Json json = Json::parse(ended.out);
    EXPECT_EQ(json["cache_type"], type);
    EXPECT_EQ(json["cost"]["kv_bytes"], json["cost"]["kv_bytes_dense"]);
    return json["cost"]["kv_bytes"].get<double>();
  };
  EXPECT_LT(bytes("q8_0"), 0.6 * bytes("i16"));
  EXPECT_LT(bytes("i16"), 0.6 * bytes("f32"));
}

TEST_F(CliAsk, GivesTheKeysThatScriptsRelyOn) {
  const std::string a = text("a.txt", "The cat is red.\r\nThe dog is blue.\r\n"), b = text("b.txt", "No bird sings.\n");
  const Ended ended = run({"ask", "-m", kTiny, "--file", a, "--file", b, "Which colour?", "-n", "8", "--json"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const Json json = Json::parse(ended.out);
  EXPECT_TRUE(json["answer"].is_string());
  EXPECT_EQ(json["model"], "tiny-llama");
  EXPECT_EQ(json["attention"], "dense");
  const Json& cost = json["cost"];
  EXPECT_GT(cost["prompt_tokens"], 40);
  EXPECT_EQ(cost["key_share"], 1.0);
  EXPECT_EQ(cost["kv_bytes"], cost["kv_bytes_dense"]);
  for (const char* key : {"prefill_seconds", "decode_seconds"}) EXPECT_TRUE(cost[key].is_number()) << key;
  ASSERT_FALSE(json["evidence"].empty());
  double share = 0;
  for (const Json& span : json["evidence"]) {
    EXPECT_TRUE(span["file"] == a || span["file"] == b);
    ASSERT_GE(span["line_start"], 1);
    ASSERT_LE(span["line_end"], span["file"] == a ? 2 : 1);
    if (span["line_start"] == 1 && span["line_end"] == 1) {
      EXPECT_EQ(span["text"], span["file"] == a ? "The cat is red." : "No bird sings.");
    }
    share += span["score"].get<double>();
  }
  EXPECT_LE(share, 1.0 + 1e-9);  // rounding of a sum of shares
}

TEST_F(CliAsk, StreamsTheAnswerThenEvidenceThenCost) {
  const std::string a = text("a.txt", "The cat is red.\nThe dog is blue.\n");
  const Ended ended = run({"ask", "-m", kTiny, "--file", a, "Which colour?", "-n", "8"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const size_t evidence = ended.out.find("\nevidence\n"), cost = ended.out.find("\ncost  ");
  ASSERT_NE(evidence, std::string::npos) << ended.out;
  ASSERT_NE(cost, std::string::npos);
  EXPECT_LT(evidence, cost);
  EXPECT_THAT(ended.out.substr(evidence), HasSubstr(a + ":"));
  EXPECT_THAT(ended.err, HasSubstr("never measured"));  // no profile of the tiny model is shipped
}

TEST_F(CliAsk, ReadsStandardInput) {
  stdin_ = text("in.txt", "The cat is red.\n");
  const Ended ended = run({"ask", "-m", kTiny, "--file", "-", "Which colour?", "-n", "4", "--json", "-q"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(Json::parse(ended.out)["evidence"][0]["file"], "-");
  EXPECT_EQ(ended.err, "");
  EXPECT_THAT(fails(2, {"ask", "-m", kTiny, "--file", "-", "--file", "-", "Which?"}), HasSubstr("once"));
}

TEST_F(CliAsk, TwoRunsAreEqual) {
  const std::string a = text("a.txt", "The cat is red.\nThe dog is blue.\n");
  std::vector<Json> runs;
  for (int i = 0; i < 2; ++i) {
    Json json = Json::parse(run({"ask", "-m", kTiny, "--file", a, "Which colour?", "-n", "8", "--json"}).out);
    json["cost"].erase("prefill_seconds");
    json["cost"].erase("decode_seconds");
    json["cost"].erase("draft_n");  // drafts go by the time that passes take
    json["cost"].erase("draft_accepted_n");
    json.erase("repack_budget_bytes");  // half of the memory that was free
    EXPECT_EQ(json["cost"]["prefix_tokens"].get<int>() > 0, i == 1);
    json["cost"].erase("prefix_tokens");
    runs.push_back(json);
  }
  EXPECT_EQ(runs[0], runs[1]);
}

TEST_F(CliAsk, LookupChangesNeitherAnswerNorEvidence) {
  std::string words;
  for (int i = 0; i < 12; ++i) words += "The cat number " + std::to_string(i) + " is red.\n";
  const std::string a = text("a.txt", words);
  int64_t drafted = 0;
  const auto ask = [&](const char* lookup) {
    const Ended ended =
        run({"ask", "-m", kTiny, "--file", a, "Which colour has the cat?", "-n", "60", "--json", "--lookup", lookup});
    EXPECT_EQ(ended.code, 0) << ended.err;
    Json json = Json::parse(ended.out);
    drafted = json["cost"]["draft_n"].get<int64_t>();
    for (const char* key : {"prefill_seconds", "decode_seconds", "draft_n", "draft_accepted_n", "prefix_tokens"})
      json["cost"].erase(key);
    json.erase("repack_budget_bytes");  // half of the memory that was free
    return json;
  };
  const Json off = ask("off");
  EXPECT_EQ(drafted, 0);
  EXPECT_EQ(ask("4"), off);
  EXPECT_GT(drafted, 0);
  EXPECT_EQ(ask("auto"), off);
}

TEST_F(CliAsk, LooksTwiceAndSaysWhatEachLookGave) {
  const std::string a = text("a.txt", "The cat is red.\n\nThe dog is blue.\n\nNo bird sings here.\n");
  const auto ask = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = {"ask", "-m", kTiny, "--file", a, "Which colour has the dog?", "-n", "8"};
    args.insert(args.end(), more.begin(), more.end());
    const Ended ended = run(args);
    EXPECT_EQ(ended.code, 0) << ended.err;
    return ended.out;
  };
  const Json once = Json::parse(ask({"--look", "once", "--json"}));
  EXPECT_FALSE(once.contains("looks"));
  EXPECT_FALSE(once["cost"].contains("look_seconds"));
  const Json twice = Json::parse(ask({"--look", "twice", "--json"}));
  EXPECT_EQ(twice["evidence"], once["evidence"]);
  EXPECT_TRUE(twice["supported"].is_boolean());
  EXPECT_TRUE(twice["disagree"].is_boolean());
  EXPECT_GT(twice["cost"]["look_seconds"], 0.0);
  const Json& looks = twice["looks"];
  ASSERT_GE(looks.size(), 2u);
  EXPECT_EQ(looks[0]["view"], "whole");
  EXPECT_EQ(looks[0]["answer"], once["answer"]);
  EXPECT_LT(looks[0]["logprob"], 0.0);
  EXPECT_EQ(looks[1]["view"], "passage");
  EXPECT_TRUE(looks[1]["answer"].is_string());
  EXPECT_EQ(looks[1]["file"], a);
  EXPECT_GE(looks[1]["line_start"], 1);
  EXPECT_LE(looks[1]["line_end"], 5);
  const bool given = twice["answer"] == looks[0]["answer"] || twice["answer"] == looks[1]["answer"] ||
                     (twice["answer"] == "The text does not say." && !twice["supported"].get<bool>());
  EXPECT_TRUE(given) << twice["answer"];
  EXPECT_THAT(ask({"--look", "twice"}), AllOf(HasSubstr("\nread again  " + a + ":"), HasSubstr(", looked again in ")));
  EXPECT_THAT(ask({"--look", "once"}), Not(HasSubstr("read again")));
  EXPECT_THAT(fails(2, {"ask", "-m", kTiny, "--file", a, "Which?", "--look", "thrice"}), HasSubstr("--look"));
}

TEST_F(CliAsk, OfAShortTextAutoLooksOnce) {
  const std::string a = text("a.txt", "The cat is red.\nThe dog is blue.\n");
  const std::vector<std::string> args = {"ask", "-m", kTiny, "--file", a, "Which colour?", "-n", "8", "--json"};
  const Json json = Json::parse(run(args).out);
  EXPECT_EQ(json["looks"].size(), 1u);
  EXPECT_EQ(json["looks"][0]["answer"], json["answer"]);
  EXPECT_EQ(json["supported"], true);
}

TEST_F(CliAsk, ASecondQuestionFindsTheTextReadAlready) {
  std::string words;
  for (int i = 0; i < 12; ++i) words += "The cat number " + std::to_string(i) + " is red.\n";
  const std::string a = text("a.txt", words);
  const auto ask = [&](const std::string& question, const std::vector<std::string>& more) {
    std::vector<std::string> args = {"ask", "-m", kTiny, "--file", a, question, "-n", "8", "--json", "-v"};
    args.insert(args.end(), more.begin(), more.end());
    const Ended ended = run(args);
    EXPECT_EQ(ended.code, 0) << ended.err;
    Json json = Json::parse(ended.out);
    json["err"] = ended.err;
    return json;
  };
  const std::string folder = path(".cache/fovea/prefix");
  const Json never = ask("Which colour has the cat?", {"--prefix-cache", "off"});
  EXPECT_FALSE(std::filesystem::exists(folder));
  for (const char* attention : {"dense", "streaming-llm:window=64"}) {
    EXPECT_EQ(ask("Who?", {"--attention", attention})["cost"]["prefix_tokens"], 0);
    const Json found = ask("Which colour has the cat?", {"--attention", attention});
    const Json fresh = ask("Which colour has the cat?", {"--attention", attention, "--prefix-cache", "off"});
    EXPECT_GT(found["cost"]["prefix_tokens"], found["cost"]["prompt_tokens"].get<int>() - 60);
    EXPECT_EQ(fresh["cost"]["prefix_tokens"], 0);
    EXPECT_EQ(found["answer"], fresh["answer"]);
    EXPECT_EQ(found["evidence"], fresh["evidence"]);
    for (const char* key : {"kv_bytes", "kv_bytes_dense", "key_share", "prompt_tokens"})
      EXPECT_EQ(found["cost"][key], fresh["cost"][key]) << key;
  }
  EXPECT_EQ(never["answer"], ask("Which colour has the cat?", {})["answer"]);
  EXPECT_THAT(run({"ask", "-m", kTiny, "--file", a, "Who?", "-n", "4"}).out, HasSubstr("stored before"));
  env_["XDG_CACHE_HOME"] = path("elsewhere");
  EXPECT_EQ(ask("Who?", {})["cost"]["prefix_tokens"], 0);
  EXPECT_TRUE(std::filesystem::exists(path("elsewhere/fovea/prefix")));
}

TEST_F(CliAsk, H22_AStoreThatCannotServeChangesNoAnswer) {
  const std::string a = text("a.txt", std::string(300, 'a') + " the end.\n");
  const std::vector<std::string> args = {
      "ask", "-m", kTiny, "--file", a, "Who?", "-n", "4", "-v", "--prefix-cache", path("kept"), "--json"};
  const Json expected = Json::parse(run(args).out);
  for (const auto& entry : std::filesystem::directory_iterator(path("kept"))) {
    const std::string bytes = read_file(entry.path().string()).value();
    ASSERT_TRUE(write_file_atomic(entry.path().string(), bytes.substr(0, bytes.size() / 2)).has_value());
  }
  const Ended damaged = run(args);
  EXPECT_EQ(damaged.code, 0);
  EXPECT_THAT(damaged.err, HasSubstr("passed over"));
  EXPECT_EQ(Json::parse(damaged.out)["answer"], expected["answer"]);
  EXPECT_GT(Json::parse(run(args).out)["cost"]["prefix_tokens"], 0);  // it was written anew
  std::vector<std::string> elsewhere = args;
  elsewhere[10] = kTiny + "/below";
  const Ended unwritable = run(elsewhere);
  EXPECT_EQ(unwritable.code, 0);
  EXPECT_THAT(unwritable.err, HasSubstr("not stored"));
  EXPECT_EQ(Json::parse(unwritable.out)["answer"], expected["answer"]);
  EXPECT_THAT(fails(2, {"ask", "-m", kTiny, "--file", a, "Who?", "--prefix-cache-size", "much"}),
              HasSubstr("--prefix-cache-size"));
}

TEST_F(CliAsk, AWriterThatIsKilledLosesNothing) {
  const std::string a = text("a.txt", std::string(300, 'a') + " the end.\n");
  const std::vector<std::string> args = {"ask", "-m", kTiny, "--file", a, "Who?", "-n", "4", "--json"};
  const std::string answer = Json::parse(run(args).out)["answer"];
  const std::string folder = path(".cache/fovea/prefix");
  // As a process leaves it that dies between its first and its last byte.
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    std::filesystem::rename(entry.path(), entry.path().string() + ".part-abcdef");
  const Json again = Json::parse(run(args).out);
  EXPECT_EQ(again["cost"]["prefix_tokens"], 0);
  EXPECT_EQ(again["answer"], answer);
  EXPECT_GT(Json::parse(run(args).out)["cost"]["prefix_tokens"], 0);
}

TEST_F(CliAsk, SaysWithBothNumbersThatATextDoesNotFit) {
  std::string long_text;
  for (int i = 0; i < 400; ++i) long_text += "word ";
  const std::string message = fails(65, {"ask", "-m", kTiny, "--file", text("long.txt", long_text), "Which?"});
  EXPECT_THAT(message, AllOf(HasSubstr("long.txt"), HasSubstr("reads 512")));
  EXPECT_THAT(fails(65, {"ask", "-m", kTiny, "-c", "50", "--file", text("short.txt", "word word word"),
                         "Which colour has it?"}),
              AllOf(HasSubstr("reads 50"), HasSubstr("--ctx-size")));
}

TEST_F(CliAsk, RefusesWhatIsNoText) {
  const std::string good = text("good.txt", "text\n");
  EXPECT_THAT(fails(65, {"ask", "-m", kTiny, "--file", text("bin", std::string("a\0b", 3)), "Which?"}),
              HasSubstr("binary"));
  EXPECT_THAT(fails(65, {"ask", "-m", kTiny, "--file", text("empty", ""), "Which?"}), HasSubstr("no text"));
  EXPECT_THAT(fails(66, {"ask", "-m", kTiny, "--file", path("absent"), "Which?"}), HasSubstr("absent"));
  std::filesystem::create_directories(path("folder"));
  EXPECT_THAT(fails(65, {"ask", "-m", kTiny, "--file", path("folder"), "Which?"}), HasSubstr("no text in it"));
  EXPECT_THAT(fails(2, {"ask", "-m", kTiny, "--file", good, " \n"}), HasSubstr("QUESTION"));
  EXPECT_THAT(fails(2, {"ask", "-m", kTiny, "--small", "--file", good, "Which?"}), HasSubstr("--small"));
  EXPECT_THAT(fails(2, {"ask", "-m", kTiny, "Which?"}), HasSubstr("--file"));
  EXPECT_THAT(fails(66, {"ask", "-m", "no-such-model", "--file", good, "Which?"}), HasSubstr("no-such-model"));
}

TEST_F(CliAsk, InvalidUtf8StaysOutOfTheJson) {
  const Ended ended =
      run({"ask", "-m", kTiny, "--file", text("latin1.txt", "caf\xE9 noir\n"), "Which?", "-n", "4", "--json"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(Json::parse(ended.out)["evidence"][0]["text"], "caf\xC3\xA9 noir");
  const Ended damaged =
      run({"ask", "-m", kTiny, "--file", text("cut.txt", "ol\xC3\xA9 caf\xC3 noir\n"), "Which?", "-n", "4", "--json"});
  ASSERT_EQ(damaged.code, 0) << damaged.err;
  EXPECT_EQ(Json::parse(damaged.out)["evidence"][0]["text"], "ol\xC3\xA9 caf\xEF\xBF\xBD noir");
}

TEST_F(CliAsk, SparseAttentionCostsLess) {
  std::string words;
  for (int i = 0; i < 30; ++i) words += "word " + std::to_string(i) + ". ";
  const Ended ended = run({"ask", "-m", kTiny, "--file", text("a.txt", words), "Which?", "-n", "4", "--json",
                           "--attention", "streaming-llm:window=32"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const Json json = Json::parse(ended.out);
  EXPECT_LT(json["cost"]["key_share"], 0.6);  // it sees 36 keys of up to 390
  EXPECT_LT(json["cost"]["kv_bytes"], json["cost"]["kv_bytes_dense"]);
  EXPECT_THAT(json["attention"].get<std::string>(), HasSubstr("streaming-llm"));
}

TEST_F(CliAsk, AProfileIsMeasuredOnceAndKept) {
  std::string words;
  for (int i = 0; i < 300; ++i) words += "Line " + std::to_string(i) + " of a text. ";
  const std::vector<std::string> measure = {"profile", "-m",       kTiny, "--json", "--lengths",
                                            "440",     "--depths", "1",   "--file", text("hay.txt", words)};
  const Ended first = run(measure);
  ASSERT_EQ(first.code, 0) << first.err;
  const Json json = Json::parse(first.out);
  EXPECT_EQ(json["version"], 1);
  EXPECT_EQ(json["heads"].size(), 8u);
  EXPECT_TRUE(json["heads"][0]["retrieval"].is_null());  // a random model finds no needle: no data
  const Ended again = run({"profile", "-m", kTiny, "--json", "-o", path("copy.json")});
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.out, first.out);
  EXPECT_EQ(read_file(path("copy.json")).value(), first.out);
  EXPECT_THAT(again.err, HasSubstr("measured before"));
  EXPECT_THAT(run({"profile", "-m", kTiny}).out, HasSubstr("no data"));
  EXPECT_THAT(fails(2, {"profile", "-m", kTiny, "--lengths", "500"}), HasSubstr("512"));  // no room for the answer
  // The negative control: weights without sense are "no data" everywhere, never zeros to rank or mask by.
  EXPECT_THAT(fails(2, {"profile", "-q", "-m", kTiny, "--against", path("copy.json")}),
              HasSubstr("no retrieval values"));
  EXPECT_THAT(fails(2, {"run", "-m", kTiny, "-n", "2", "--attention", "retrieval-heads:mask_top=1", "Hello"}),
              HasSubstr("needs the retrieval values"));
}

TEST_F(CliAsk, TwoProfilesAreComparedHeadByHead) {
  Json profile = {{"version", 1},
                  {"model_sha256", sha256_of_file(kTiny).value()},
                  {"n_layers", 2},
                  {"n_heads", 4},
                  {"measured", Json::object()},
                  {"heads", Json::array()}};
  for (int i = 0; i < 8; ++i) profile["heads"].push_back({{"layer", i / 4}, {"head", i % 4}, {"retrieval", 0.1 * i}});
  std::filesystem::create_directories(path("store/profiles"));
  text("store/profiles/" + profile["model_sha256"].get<std::string>() + ".json", profile.dump());
  const std::string other = path("other.json");
  for (int i = 0; i < 8; ++i) profile["heads"][static_cast<size_t>(i)]["retrieval"] = 0.7 - 0.1 * i;
  profile["model_sha256"] = "another";
  text("other.json", profile.dump());
  const Ended ended = run({"profile", "-m", kTiny, "--json", "--against", other});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const Json json = Json::parse(ended.out);
  EXPECT_NEAR(json["pearson"].get<double>(), -1, 1e-9);
  EXPECT_NEAR(json["spearman"].get<double>(), -1, 1e-9);
  EXPECT_EQ(json["same_model_file"], false);
  EXPECT_THAT(run({"profile", "-m", kTiny, "--against", other}).out, HasSubstr("Pearson -1.000"));
  profile["n_heads"] = 2, profile["n_layers"] = 4;
  for (int i = 0; i < 8; ++i) {
    profile["heads"][static_cast<size_t>(i)]["layer"] = i / 2;
    profile["heads"][static_cast<size_t>(i)]["head"] = i % 2;
  }
  text("other.json", profile.dump());
  EXPECT_THAT(fails(2, {"profile", "-q", "-m", kTiny, "--against", other}),
              HasSubstr("2 layers of 4 heads cannot be compared with 4 layers of 2"));
  text("other.json", "{");
  EXPECT_THAT(fails(65, {"profile", "-q", "-m", kTiny, "--against", other}), HasSubstr("other.json"));
}

TEST_F(CliAsk, AKeptProfileServesTheMethodsThatNeedOne) {
  const std::vector<std::string> masked = {"ask",    "-m", kTiny, "--file",      text("a.txt", "The cat is red.\n"),
                                           "Which?", "-n", "4",   "--attention", "retrieval-heads:mask_top=1",
                                           "--json"};
  EXPECT_THAT(fails(2, masked), HasSubstr("fovea profile"));
  Json profile = {{"version", 1}, {"model_sha256", sha256_of_file(kTiny).value()}, {"heads", Json::array()}};
  for (int i = 0; i < 8; ++i)
    profile["heads"].push_back({{"layer", i / 4}, {"head", i % 4}, {"retrieval", i == 5 ? 0.9 : 0.0}});
  std::filesystem::create_directories(path("store/profiles"));
  const std::string kept = "store/profiles/" + profile["model_sha256"].get<std::string>() + ".json";
  text(kept, profile.dump());
  const Ended ended = run(masked);
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(Json::parse(ended.out)["attention"].get<std::string>(), HasSubstr("mask_top=1"));
  EXPECT_THAT(ended.err, Not(HasSubstr("never measured")));
}

TEST_F(CliAsk, ABrokenKeptProfileIsSaidAndStopsOnlyWhatNeedsIt) {
  std::filesystem::create_directories(path("store/profiles"));
  text("store/profiles/" + sha256_of_file(kTiny).value() + ".json", "{");
  const auto said = AllOf(HasSubstr("profiles/"), HasSubstr("fovea profile -m"), HasSubstr("--again"));
  std::vector<std::string> ask = {"ask",    "-m", kTiny, "--file", text("a.txt", "The cat is red.\n"),
                                  "Which?", "-n", "4"};
  const Ended dense = run(ask);
  EXPECT_EQ(dense.code, 0) << dense.err;
  EXPECT_THAT(dense.err, said);
  ask.insert(ask.end(), {"--attention", "streaming-llm"});
  const Ended windowed = run(ask);
  EXPECT_EQ(windowed.code, 0) << windowed.err;
  EXPECT_THAT(windowed.err, said);
  ask.back() = "retrieval-heads:mask_top=1";
  const Ended masked = run(ask);
  EXPECT_EQ(masked.code, 2) << masked.err;
  EXPECT_THAT(masked.err, AllOf(said, HasSubstr("needs the retrieval values of a head profile")));
}

}  // namespace cli_ask_test
}  // namespace fovea
