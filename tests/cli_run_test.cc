// run, chat, logits, perplexity and bench on the tiny models: keys, exit codes, manners.
#include <signal.h>

#include <cmath>
#include <cstring>

#include "fovea/base/testing/paths.h"
#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_run_test {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

const std::string kQwen = source_dir() + "/tests/data/tiny-qwen2.gguf";

TEST_F(Cli, RunStreamsTheAnswerAndSaysTheRestOnStderr) {
  const Ended text = run({"run", "-m", kTiny, "hello", "-n", "8", "--temp", "0"});
  EXPECT_EQ(text.code, 0) << text.err;
  const Json json_ = json({"run", "-m", kTiny, "hello", "-n", "8", "--temp", "0", "--json"});
  EXPECT_EQ(text.out, json_["text"].get<std::string>() + "\n");
  EXPECT_THAT(text.err, AllOf(HasSubstr("prompt "), HasSubstr("answer 8 tokens")));
  EXPECT_EQ(run({"run", "-m", kTiny, "hello", "-n", "8", "-q"}).err, "");
  EXPECT_EQ(json_["tokens"].size(), 8u);
  EXPECT_TRUE(json_["tokens"][0].contains("id") && json_["tokens"][0].contains("piece"));
  EXPECT_EQ(json_["finish_reason"], "length");
  for (const char* key : {"prompt_n", "prompt_ms", "prompt_per_second", "predicted_n", "predicted_ms",
                          "predicted_per_second", "draft_n", "draft_accepted_n"}) {
    EXPECT_TRUE(json_["timings"][key].is_number()) << key;
  }
  EXPECT_EQ(json_["timings"]["predicted_n"], 8);
  EXPECT_EQ(json_["cost"]["key_share"], 1);
  EXPECT_EQ(json_["cost"]["kv_bytes"], json_["cost"]["kv_bytes_dense"]);
  // What a method keeps beside the cache counts: copies of the keys, half of it again.
  const Json copies = json({"run", "-m", kTiny, "hello", "-n", "40", "--temp", "0", "--ignore-eos", "--json",
                            "--attention", "token-select:n_init=4:n_local=4:top_k=4"})["cost"];
  EXPECT_GT(copies["kv_bytes"].get<double>(), 1.3 * copies["kv_bytes_dense"].get<double>());
}

TEST_F(Cli, ABudgetForRepackedWeightsIsKeptShownAndChangesNoAnswer) {
  const auto with = [&](const std::string& repack) {
    return json({"run", "-m", kTiny, "hello", "-n", "8", "--temp", "0", "--json", "--repack", repack});
  };
  const Json all = with("auto");
  const auto bytes = all["packed_bytes"].get<uint64_t>();
  EXPECT_GT(bytes, 0u);
  EXPECT_GE(all["repack_budget_bytes"].get<uint64_t>(), bytes);
  for (const std::string& repack : {std::string("off"), std::to_string(bytes / 2)}) {
    const Json some = with(repack);
    const uint64_t budget = repack == "off" ? 0 : bytes / 2;
    EXPECT_EQ(some["repack_budget_bytes"], budget);
    EXPECT_LE(some["packed_bytes"].get<uint64_t>(), budget);
    EXPECT_EQ(some["tokens"], all["tokens"]);
  }
  EXPECT_THAT(run({"run", "-m", kTiny, "hello", "-n", "1", "-v", "--repack", "2000000"}).err,
              HasSubstr("within 2 MB (--repack 2000000)"));
}

TEST_F(Cli, ThePromptComesFromAnyOnePlace) {
  const std::string prompt = file("prompt", "some words");
  const auto text = [&](std::vector<std::string> args) {
    args.insert(args.begin(), {"run", "-m", kTiny, "-n", "4", "--temp", "0", "--json"});
    return json(args)["tokens"];
  };
  const Json expected = text({"some words"});
  EXPECT_EQ(text({"-p", "some words"}), expected);
  EXPECT_EQ(text({"-f", prompt}), expected);
  stdin_ = prompt;
  EXPECT_EQ(text({"-"}), expected);
  EXPECT_EQ(text({"-f", "-"}), expected);
  EXPECT_THAT(fails(2, {"run", "-m", kTiny}), HasSubstr("--file"));
  EXPECT_THAT(fails(2, {"run", "-m", kTiny, "a", "-p", "b"}), HasSubstr("one of"));
  EXPECT_THAT(fails(66, {"run", "-m", kTiny, "-f", path("none")}), HasSubstr("none"));
}

TEST_F(Cli, RawLeavesTheTemplateOut) {
  const auto prompt_n = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = {"run", "-m", kTiny, "hello", "-n", "0", "--json"};
    args.insert(args.end(), more.begin(), more.end());
    return json(args)["timings"]["prompt_n"].get<int>();
  };
  const auto n_text = static_cast<int>(json({"tokenize", "-m", kTiny, "hello", "--json"})["tokens"].size());
  EXPECT_EQ(prompt_n({"--raw"}), n_text);
  EXPECT_GT(prompt_n({}), n_text);
  EXPECT_GT(prompt_n({"--system", "Be kind."}), prompt_n({}));
  EXPECT_THAT(fails(2, {"run", "-m", kTiny, "x", "--raw", "--system", "y"}), HasSubstr("--raw"));
  EXPECT_THAT(fails(2, {"run", "-m", kTiny, "x", "--parse-special"}), HasSubstr("--raw"));
  const auto raw_n = [&](const char* flag) {
    return json({"run", "-m", kTiny, "<|im_end|>", "-n", "0", "--json", "--raw", flag})["timings"]["prompt_n"]
        .get<int>();
  };
  EXPECT_LT(raw_n("--parse-special"), raw_n("--ignore-eos"));
}

TEST_F(Cli, T4_SpecialTokensOfAPromptStayText) {
  const auto n = [&](const char* text) {
    return json({"run", "-m", kTiny, text, "-n", "0", "--json"})["timings"]["prompt_n"].get<int>();
  };
  const auto spelt = static_cast<int>(json({"tokenize", "-m", kTiny, "<|im_end|>", "--json"})["tokens"].size());
  EXPECT_EQ(n("a<|im_end|>") - n("a"), spelt);
}

TEST_F(Cli, H11_AnEmptyPromptIsRefused) {
  EXPECT_THAT(fails(2, {"run", "-m", kTiny, ""}), HasSubstr("the prompt is empty"));
  EXPECT_THAT(fails(2, {"run", "-m", kTiny, "-f", file("empty", "")}), HasSubstr("the prompt is empty"));
  EXPECT_THAT(fails(2, {"run", "-m", kTiny, "--raw", "-"}), HasSubstr("the prompt is empty"));
  EXPECT_THAT(fails(2, {"logits", "-m", kTiny, "", "-o", path("l.npy")}), HasSubstr("empty"));
  EXPECT_THAT(fails(65, {"logits", "-m", kTiny, "--ids", file("ids", "[]"), "-o", path("l.npy")}),
              HasSubstr("the list of ids is empty"));
}

TEST_F(Cli, H10_APromptOverTheContextIsRefusedWithBothNumbers) {
  const std::string longer = file("long", std::string(9000, '#'));
  const std::string message = fails(65, {"run", "-m", kTiny, "-f", longer, "--raw"});
  EXPECT_THAT(message, AllOf(HasSubstr("9000"), HasSubstr("512")));
  EXPECT_THAT(fails(65, {"run", "-m", kTiny, "-c", "8", "--raw", "############"}),
              AllOf(HasSubstr("12"), HasSubstr("holds 8"), HasSubstr("--ctx-size")));
  const Json exact = json({"run", "-m", kTiny, "-c", "12", "--raw", "############", "--json", "--ignore-eos"});
  EXPECT_EQ(exact["finish_reason"], "length");
  EXPECT_EQ(exact["tokens"].size(), 1u);
}

TEST_F(Cli, SeedsRepeatAndStopStringsStop) {
  const std::vector<std::string> args = {"run", "-m", kTiny, "hello", "-n", "24", "--json", "--ignore-eos"};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = args;
    all.insert(all.end(), more.begin(), more.end());
    return json(all);
  };
  EXPECT_EQ(with({"-s", "5"})["tokens"], with({"-s", "5"})["tokens"]);
  EXPECT_NE(with({"-s", "5"})["tokens"], with({"-s", "6"})["tokens"]);
  const Json letters = with({"--temp", "0", "--logit-bias", "70=50", "--logit-bias", "71=50", "--logit-bias", "72=50"});
  const std::string text = letters["text"], stop = text.substr(3, 2);
  const Json stopped = with({"--temp", "0", "--logit-bias", "70=50", "--logit-bias", "71=50", "--logit-bias", "72=50",
                             "--stop", stop, "--stop", "@@"});
  EXPECT_EQ(stopped["finish_reason"], "stop");
  EXPECT_EQ(stopped["text"], text.substr(0, text.find(stop)));
}

TEST_F(Cli, LookupChangesNoAnswer) {
  int64_t drafted = 0;
  const auto with = [&](const char* lookup, const std::vector<std::string>& more) {
    std::vector<std::string> all = {"run", "-m",     kTiny,          "hello hello", "-n",
                                    "60",  "--json", "--ignore-eos", "--lookup",    lookup};
    all.insert(all.end(), more.begin(), more.end());
    Json out = json(all);
    drafted += out["timings"]["draft_n"].get<int64_t>();
    if (std::string(lookup) == "off") {
      EXPECT_EQ(out["timings"]["draft_n"], 0);
    }
    EXPECT_LE(out["timings"]["draft_accepted_n"], out["timings"]["draft_n"]);
    out.erase("timings");
    out.erase("repack_budget_bytes");  // half of the memory that was free
    return out;
  };
  for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{
           {"--temp", "0"}, {"--temp", "0.3", "-s", "7", "--repeat-penalty", "1.1"}, {"--temp", "0", "--stop", "e"}}) {
    const Json off = with("off", more);
    for (const char* lookup : {"auto", "1", "16"}) EXPECT_EQ(with(lookup, more), off) << lookup << more[1];
  }
  EXPECT_GT(drafted, 0);
  EXPECT_EQ(with("16", {"--temp", "0", "--attention", "streaming-llm:window=8"}),
            with("off", {"--temp", "0", "--attention", "streaming-llm:window=8"}));
}

TEST_F(Cli, H6_L2_WrongValuesOfModelCommandsNameTheFlagAndTheRange) {
  const std::vector<std::tuple<std::string, std::string, std::string>> cases = {
      {"--temp", "-1", "0 to 100"},
      {"--temp", "nan", "0 to 100"},
      {"--temp", "1e308", "0 to 100"},
      {"--top-p", "2", "0 to 1"},
      {"--min-p", "nan", "0 to 1"},
      {"--top-k", "-1", "0 to 2147483647"},
      {"--top-k", "2147483648", "0 to 2147483647"},
      {"--repeat-penalty", "0", "0.01"},
      {"--seed", "-2", "0 to"},
      {"--seed", "18446744073709551616", "0 to"},
      {"--n-predict", "abc", "-1 to"},
      {"--n-predict", "1e3", "-1 to"},
      {"--n-predict", "-5", "-1 to"},
      {"--ctx-size", "-1", "0 to"},
      {"--ctx-size", "513", "512"},
      {"--batch-size", "0", "1 to"},
      {"--threads", "0", "1"},
      {"--repack", "some", "auto"},
      {"--logit-bias", "5", "ID=VALUE"},
      {"--logit-bias", "x=1", "ID=VALUE"},
      {"--logit-bias", "300=1", "299"},
      {"--logit-bias", "5=nan", "token 5"},
      {"--lookup", "on", "auto, off"},
      {"--lookup", "0", "1 to 16"},
      {"--lookup", "17", "1 to 16"},
      {"--stop", std::string(300, 'x'), "256"},
      {"--numerics", "exakt", "exact"},
      {"--cache-type", "f16", "is not auto, q8_0, f32 or i16"},
      {"--attention", "dens", "dens"}};
  for (const auto& [flag, value, said] : cases) {
    const std::string message = fails(2, {"run", "-m", kTiny, "hello", "-n", "1", flag, value});
    EXPECT_THAT(message, HasSubstr(said)) << flag << " " << value;
    EXPECT_THAT(message, HasSubstr(flag.substr(2, 5))) << flag << " " << value;
  }
  env_["FOVEA_ARG_TEMP"] = "hot";
  EXPECT_THAT(fails(2, {"run", "-m", kTiny, "hello"}), HasSubstr("FOVEA_ARG_TEMP"));
}

TEST_F(Cli, AModelThatIsNotThereIsNamedWithHowToGetIt) {
  EXPECT_THAT(fails(66, {"run", "-m", "smollm2-135m", "hello"}), HasSubstr("fovea pull smollm2-135m"));
  EXPECT_THAT(fails(66, {"run", "-m", "smolm2", "hello"}), HasSubstr("fovea pull smollm2-135m"));
}

TEST_F(Cli, L4_ASecondInterruptLeavesNoHalfWrittenFile) {
  const auto half_written = [&] {
    for (const auto& entry : std::filesystem::directory_iterator(root_))
      if (entry.path().filename().string().find(".part-") != std::string::npos) return true;
    return false;
  };
  const std::string text = file("text", std::string(500, '#'));
  // Whether the file was there when the program was stopped is a race that a fast machine may lose now and then.
  for (int attempt = 0; attempt < 50; ++attempt) {
    const pid_t child = start({"logits", "-m", kTiny, "-f", text, "-b", "1", "-o", path("l.npy")});
    int status = 0;
    while (!half_written() && waitid(P_PID, static_cast<id_t>(child), nullptr, WEXITED | WNOWAIT | WNOHANG) == 0 &&
           !std::filesystem::exists(path("l.npy"))) {
    }
    kill(child, SIGSTOP);
    ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
    if (!WIFSTOPPED(status)) {
      std::filesystem::remove(path("l.npy"));
      continue;
    }
    const bool was_there = half_written();
    kill(child, SIGINT);  // both wait for it: the one it meets first is noted, the other ends it; their order is open
    kill(child, SIGTERM);
    kill(child, SIGCONT);
    EXPECT_THAT(finish(child).code, AnyOf(130, 143));
    EXPECT_FALSE(half_written());
    if (was_there) return;
  }
  FAIL() << "the program was never met while it wrote";
}

TEST_F(Cli, ChatAnswersEveryLineAndRemembers) {
  stdin_ = file("lines", "hello\n\n/clear\nhello\nand more\n/what\n/exit\nnever\n");
  const Json chat = json({"chat", "-m", kTiny, "-n", "6", "--temp", "0", "--json"});
  const Json& turns = chat["turns"];
  ASSERT_EQ(turns.size(), 3u);
  EXPECT_EQ(turns[0]["user"], "hello");
  EXPECT_EQ(turns[1]["tokens"], turns[0]["tokens"]);  // a new conversation, the same question
  EXPECT_EQ(turns[1]["timings"]["prompt_n"], 1);      // the cache holds it all but for the last token
  // What the third turn reads is its own part only: less than the same conversation read anew.
  EXPECT_LT(turns[2]["timings"]["prompt_n"].get<int>(), 2 * turns[0]["timings"]["prompt_n"].get<int>());
  const Ended text = run({"chat", "-m", kTiny, "-n", "6", "--temp", "0"});
  EXPECT_EQ(text.code, 0);
  std::string expected;
  for (const Json& turn : turns) expected += turn["text"].get<std::string>() + "\n";
  EXPECT_EQ(text.out, expected);
  EXPECT_THAT(text.err, AllOf(HasSubstr("a new conversation"), HasSubstr("/exit")));
}

TEST_F(Cli, AReusedPrefixChangesNoAnswer) {
  stdin_ = file("lines", "hello\nand more\n");
  const Json turns = json({"chat", "-m", kTiny, "-n", "5", "--temp", "0", "--json"})["turns"];
  ASSERT_EQ(turns.size(), 2u);
  const std::string prompt = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n" +
                             turns[0]["text"].get<std::string>() +
                             "<|im_end|>\n<|im_start|>user\nand more<|im_end|>\n<|im_start|>assistant\n";
  const Json alone =
      json({"run", "-m", kTiny, "--raw", "--parse-special", "-n", "5", "--temp", "0", "--json", "-p", prompt});
  EXPECT_EQ(alone["tokens"], turns[1]["tokens"]);
}

TEST_F(Cli, ChatReusesItsPrefixWhereTheMethodCanGoBack) {
  stdin_ = file("lines", "hello\n/clear\nhello\n");
  const auto read_again = [&](const char* attention) {
    const Json turns =
        json({"chat", "-m", kTiny, "-n", "6", "--temp", "0", "--json", "--attention", attention})["turns"];
    EXPECT_EQ(turns[0]["tokens"], turns[1]["tokens"]) << attention;
    return turns[1]["timings"]["prompt_n"].get<int>();
  };
  EXPECT_EQ(read_again("dense"), 1);
  EXPECT_EQ(read_again("scale:value=0.5"), 1);
  EXPECT_EQ(read_again("streaming-llm:window=1000"), 1);  // it has dropped nothing
  EXPECT_GT(read_again("streaming-llm:window=8"), 20);
}

TEST_F(Cli, ChatFindsALongSystemMessageReadAlready) {
  std::string words;
  for (int i = 0; i < 30; ++i) words += "word " + std::to_string(i) + ". ";
  const auto turns = [&](const std::string& lines, const std::string& cache) {
    stdin_ = file("lines", lines);
    return json(
        {"chat", "-m", kTiny, "--system", words, "-n", "5", "--temp", "0", "--json", "--prefix-cache", cache})["turns"];
  };
  const Json fresh = turns("what?\nand more\n", "off"), first = turns("hello\n", path("kept")),
             second = turns("what?\nand more\n", path("kept"));
  EXPECT_EQ(first[0]["prefix_tokens"], 0);
  EXPECT_GT(second[0]["prefix_tokens"], 60);
  EXPECT_LT(second[0]["timings"]["prompt_n"], 30);
  EXPECT_EQ(second[1]["prefix_tokens"], 0);  // what this conversation holds is not from the disk
  for (const size_t turn : {size_t{0}, size_t{1}}) EXPECT_EQ(second[turn]["tokens"], fresh[turn]["tokens"]) << turn;
}

TEST_F(Cli, ChatOverTheContextSaysSo) {
  stdin_ = file("lines", std::string(4000, '#') + "\n");
  EXPECT_THAT(fails(65, {"chat", "-m", kTiny}), AllOf(HasSubstr("4"), HasSubstr("holds 512"), HasSubstr("/clear")));
  stdin_ = file("none", "");
  EXPECT_EQ(run({"chat", "-m", kTiny}).out, "");
}

TEST_F(Cli, LogitsWritesOneRowPerToken) {
  const std::string out = path("l.npy");
  const Json answer = json({"logits", "-m", kTiny, "hello there", "-o", out, "--json", "-b", "3"});
  EXPECT_EQ(answer["path"], out);
  const size_t n = answer["tokens"].size();
  const std::string bytes = read_file(out).value();
  EXPECT_EQ(bytes.substr(0, 8), std::string("\x93NUMPY\x01\0", 8));
  const size_t data = 10 + static_cast<unsigned char>(bytes[8]) + 256 * static_cast<unsigned char>(bytes[9]);
  EXPECT_EQ(data % 64, 0u);
  EXPECT_THAT(bytes.substr(10, data - 10), AllOf(HasSubstr("'<f4'"), HasSubstr("False"),
                                                 HasSubstr("(" + std::to_string(n) + ", 300)"), EndsWith("\n")));
  EXPECT_EQ(bytes.size(), data + n * 300 * 4);
  std::vector<float> last(300);
  std::memcpy(last.data(), bytes.data() + bytes.size() - 1200, 1200);
  const auto best = std::max_element(last.begin(), last.end()) - last.begin();
  const Json next =
      json({"run", "-m", kTiny, "--raw", "hello there", "-n", "1", "--temp", "0", "--ignore-eos", "--json"});
  EXPECT_EQ(next["tokens"][0]["id"], best);
  const std::string again = path("m.npy");
  (void)json({"logits", "-m", kTiny, "hello there", "-o", again, "--json"});
  EXPECT_EQ(read_file(again).value(), bytes);  // whatever the chunk
}

TEST_F(Cli, LogitsThatFailLeaveNoFile) {
  EXPECT_THAT(fails(65, {"logits", "-m", kTiny, std::string(9000, '#'), "-o", path("l.npy")}), HasSubstr("512"));
  EXPECT_THAT(fails(66, {"logits", "-m", kTiny, "x", "-o", path("no/such/l.npy")}), HasSubstr("l.npy"));
  for (const auto& entry : std::filesystem::directory_iterator(root_))
    EXPECT_THAT(entry.path().string(), Not(HasSubstr("npy")));
}

TEST_F(Cli, PerplexityScoresTheSecondHalfOfEachWindow) {
  const std::string text = file("text", std::string(200, '#'));
  const Json got = json({"perplexity", "-m", kTiny, "-f", text, "-c", "64", "--json", "--numerics", "exact"});
  EXPECT_EQ(got["n_scored_tokens"], 3 * 31);
  EXPECT_NEAR(got["perplexity"].get<double>(), std::exp(got["nll"].get<double>()), 1e-6);
  // The same from `logits` of one window.
  const Json one =
      json({"perplexity", "-m", kTiny, "-f", text, "-c", "64", "--chunks", "1", "--json", "--numerics", "exact"});
  (void)json({"logits", "-m", kTiny, std::string(64, '#'), "-o", path("l.npy"), "--json", "--numerics", "exact"});
  const std::string bytes = read_file(path("l.npy")).value();
  const auto id = json({"tokenize", "-m", kTiny, "#", "--json"})["tokens"][0]["id"].get<size_t>();
  double sum = 0;
  for (size_t row = 32; row < 63; ++row) {
    std::vector<float> x(300);
    std::memcpy(x.data(), bytes.data() + bytes.size() - (64 - row) * 1200, 1200);
    double total = 0;
    for (const float v : x) total += std::exp(double{v});
    sum += std::log(total) - double{x[id]};
  }
  EXPECT_NEAR(one["nll"].get<double>(), sum / 31, 1e-5);  // float32 logits
  EXPECT_THAT(fails(2, {"perplexity", "-m", kTiny, "-f", text, "-c", "256"}),
              AllOf(HasSubstr("200"), HasSubstr("256")));
  EXPECT_THAT(fails(2, {"perplexity", "-m", kTiny, "-f", text, "-c", "2"}), HasSubstr("ctx-size"));
}

TEST_F(Cli, BenchHasTheKeysThatScriptsRelyOn) {
  const Json bench =
      json({"bench", "-m", kTiny, "-p", "16,32", "-n", "4", "-d", "0,100", "--sequences", "1,3", "-r", "2", "--json"});
  std::vector<std::string> tests;
  for (const Json& row : bench["rows"]) {
    tests.push_back(row["test"]);
    for (const char* key :
         {"n_prompt", "n_gen", "depth", "n_sequences", "tokens_per_second", "stddev", "peak_rss_bytes"})
      EXPECT_TRUE(row[key].is_number()) << key;
    EXPECT_GT(row["tokens_per_second"], 0);
    EXPECT_GT(row["peak_rss_bytes"], 0);
  }
  EXPECT_EQ(tests, (std::vector<std::string>{"pp16", "pp32", "tg4", "tg4 x3", "tg4@d100", "tg4 x3 @ d100"}));
  for (const char* key : {"isa", "threads", "model_sha256", "numerics", "cache_type", "machine"})
    EXPECT_TRUE(bench.contains(key)) << key;
  EXPECT_THAT(run({"bench", "-m", kTiny, "-p", "16", "-n", "0", "-r", "1"}).out,
              AllOf(HasSubstr("pp16"), HasSubstr("t/s"), Not(HasSubstr("tg"))));
  EXPECT_THAT(fails(65, {"bench", "-m", kTiny, "-c", "512", "-p", "600"}), AllOf(HasSubstr("600"), HasSubstr("512")));
  EXPECT_THAT(fails(65, {"bench", "-m", kTiny, "-c", "512", "-p", "0", "-d", "500"}), HasSubstr("--depth"));
  const Ended deep =
      run({"bench", "-m", kTiny, "-p", "0", "-n", "4", "-d", "600", "-r", "1"});  // time knows no training
  EXPECT_EQ(deep.code, 0);
  EXPECT_THAT(deep.err, HasSubstr("604 tokens are more than the 512"));
  EXPECT_THAT(fails(2, {"bench", "-m", kTiny, "-p", "1,x"}), HasSubstr("--n-prompt"));
  EXPECT_THAT(fails(2, {"bench", "-m", kTiny, "--sequences", "0"}), HasSubstr("--sequences"));
}

TEST_F(Cli, TheTypeOfTheCacheIsAskedForAndShown) {
  const std::vector<std::string> bench = {"bench", "-m", kTiny, "-p", "16", "-n", "0", "-r", "1"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), bench.begin(), bench.end());
    return more;
  };
  EXPECT_EQ(json(with({"--json"}))["cache_type"], "i16");
  EXPECT_EQ(json(with({"--json", "--numerics", "exact"}))["cache_type"], "f32");
  EXPECT_EQ(json(with({"--json", "--cache-type", "q8_0"}))["cache_type"], "q8_0");
  EXPECT_EQ(json(with({"--json", "--numerics", "exact", "--cache-type", "q8_0"}))["cache_type"], "q8_0");
  EXPECT_THAT(run(with({"--cache-type", "q8_0"})).out, HasSubstr("q8_0 keys and values"));
  for (const char* command : {"ask", "bench", "chat", "logits", "perplexity", "run"})
    EXPECT_THAT(run({command, "--help"}).out, AllOf(HasSubstr("--cache-type"), HasSubstr("-ctk"))) << command;
}

TEST_F(Cli, QualityComparesFastWithExact) {
  const std::string text = file("text", read_file(source_dir() + "/LICENSE").value().substr(0, 3000));
  const Json got = json({"bench", "-m", kQwen, "--quality", "-f", text, "-c", "64", "--chunks", "2", "--json"});
  EXPECT_EQ(got["n_scored_tokens"], 2 * 31);
  EXPECT_GT(got["mean_kl"], 0);
  EXPECT_LT(got["mean_kl"], 0.05);
  EXPECT_GE(got["p99_kl"], got["mean_kl"]);
  EXPECT_GE(got["max_kl"], got["p99_kl"]);
  EXPECT_GT(got["top1_agreement"], 0.5);
  EXPECT_LE(got["top1_agreement"], 1);
  EXPECT_THAT(fails(2, {"bench", "-m", kTiny, "--quality"}), HasSubstr("--file"));
  EXPECT_THAT(fails(2, {"bench", "-m", kTiny, "-f", text}), HasSubstr("--quality"));
}

TEST_F(Cli, L4_CtrlCEndsAModelCommandWith130AndOneSentence) {
  // -v says a line once the model is loaded: only then comes the signal.
  const std::string command = kProgram + " bench -v -m " + kTiny + " -p 512 -n 0 -r 1000 --json >" + path("o") + " 2>" +
                              path("e") + " & p=$!; for i in $(seq 400); do [ -s " + path("e") +
                              " ] && break; sleep 0.02; done; kill -INT $p; wait $p; exit $?";
  // A shell without job control starts background jobs with SIGINT ignored: bash -m does not.
  const int status = std::system(("bash -m -c '" + command + "' 2>/dev/null").c_str());
  EXPECT_EQ(WEXITSTATUS(status), 130);
  EXPECT_THAT(read_file(path("e")).value(), EndsWith("fovea: interrupted\n"));
  EXPECT_EQ(read_file(path("o")).value(), "");
}

}  // namespace cli_run_test
}  // namespace fovea
