// How the command line is read: flags before the command, other names, numbers and sizes, flags of llama.cpp.
#include <set>

#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_arguments_test {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

class Arguments : public Cli {
 protected:
  // A short run with more arguments.
  std::vector<std::string> hello(const std::vector<std::string>& more) const {
    std::vector<std::string> args = {"run", "-m", kTiny, "hello", "-n", "4", "--temp", "0"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  Json answer(std::vector<std::string> more) {
    more.emplace_back("--json");
    return json(hello(more));
  }
};

TEST_F(Arguments, FlagsOfEveryCommandMayStandBeforeIt) {
  EXPECT_EQ(json({"--json", "list"}), Json({{"models", Json::array()}}));
  EXPECT_EQ(run({"-q", "list"}).err, "");
  EXPECT_EQ(json({"-t", "1", "--json", "run", "-m", kTiny, "hello", "-n", "1"})["threads"], 1);
  EXPECT_EQ(json({"--threads=1", "run", "-m", kTiny, "hello", "-n", "1", "--json"})["threads"], 1);
  EXPECT_EQ(json({"-t1", "run", "-m", kTiny, "hello", "-n", "1", "--json", "-t", "2"})["threads"], 2);
  EXPECT_THAT(fails(2, {"-t", "0", "list"}), HasSubstr("1 to 1024"));
  EXPECT_THAT(fails(2, {"-m", kTiny, "run", "hello"}), HasSubstr("fovea run -m"));
  EXPECT_THAT(fails(2, {"--jsno", "list"}), HasSubstr("--jsno"));
  EXPECT_THAT(fails(2, {"--json"}), HasSubstr("no command"));
}

TEST_F(Arguments, CommandsHaveTheNamesThatOtherProgramsGiveThem) {
  EXPECT_EQ(run({"ls", "--json"}).out, run({"list", "--json"}).out);
  EXPECT_EQ(run({"help", "run"}).out, run({"run", "--help"}).out);
  EXPECT_EQ(run({"help", "ls"}).out, run({"list", "--help"}).out);
  EXPECT_EQ(run({"help"}).out, run({"--help"}).out);
  EXPECT_EQ(run({"-h", "run"}).out, run({"run", "--help"}).out);
  EXPECT_THAT(fails(2, {"help", "rnu"}), HasSubstr("did you mean run?"));
}

TEST_F(Arguments, OfAFlagThatIsGivenTwiceTheLastCounts) {
  EXPECT_EQ(answer({"-n", "1", "-n", "2"})["tokens"].size(), 2u);
  EXPECT_EQ(answer({"-t", "2", "--threads", "1"})["threads"], 1);
  EXPECT_EQ(answer({"--temp", "5", "--temperature", "0"})["tokens"], answer({})["tokens"]);
  EXPECT_EQ(run(hello({"-q", "-q"})).err, "");
  EXPECT_EQ(run({"list", "--json", "--json"}).code, 0);
  env_["FOVEA_ARG_N_PREDICT"] = "3";  // and a flag counts more than a variable
  EXPECT_EQ(answer({})["tokens"].size(), 4u);
}

TEST_F(Arguments, EveryCountIsAWholeNumberInItsRange) {
  const std::vector<std::pair<const char*, const char*>> counts = {{"-n", "-1 to 2147483647"},
                                                                   {"--top-k", "0 to 2147483647"},
                                                                   {"--repeat-last-n", "-1 to 2147483647"},
                                                                   {"-c", "0 to 16777216"},
                                                                   {"-b", "1 to 65536"},
                                                                   {"--ubatch-size", "1 to 65536"},
                                                                   {"--threads", "1 to 1024"},
                                                                   {"--lookup", "1 to 16"},
                                                                   {"--logprobs", "0 to 20"},
                                                                   {"--seed", "18446744073709551615"},
                                                                   {"--presence-penalty", "-2 to 2"},
                                                                   {"--temp", "0 to 100"},
                                                                   {"--repack", "9223372036854775807"}};
  for (const auto& [flag, range] : counts) {
    for (const char* value : {"-3", "99999999999999999999", "1.5.", "1x", "0x10", "1e3x", "nan", " 1"}) {
      EXPECT_THAT(fails(2, hello({flag, value})), HasSubstr(range)) << flag << " " << value;
    }
  }
  for (const char* flag : {"-n", "-c", "-b", "--threads", "--seed", "--top-k"})
    EXPECT_THAT(fails(2, hello({flag, "1.5"})), HasSubstr("whole number")) << flag;
  EXPECT_EQ(answer({"-t", "010"}).value("threads", 0), 10);  // decimal, not octal
}

TEST_F(Arguments, EverySizeHasARangeAndSuffixes) {
  const auto capture = [&](const std::string& size) {
    return std::vector<std::string>{"capture", "-m", kTiny, "x", "--hooks", "q0", "--estimate", "--max-bytes", size};
  };
  const auto ask = [&](const std::string& size) {
    return std::vector<std::string>{
        "ask", "-m", kTiny, "-f", file("a.txt", "a b"), "-n", "1", "what?", "--prefix-cache-size", size};
  };
  for (const char* size : {"-1", "99999999999999999999", "9223372036854775808", "1.5G", "-1G", "1X", "G", ""}) {
    EXPECT_THAT(fails(2, capture(size)),
                AllOf(HasSubstr("--max-bytes"), HasSubstr(*size ? "0 to 9223372036854775807 bytes" : "")))
        << size;
    EXPECT_THAT(fails(2, ask(size)), HasSubstr("--prefix-cache-size")) << size;
  }
  std::vector<std::string> args = capture("2G");
  args.emplace_back("--json");
  EXPECT_EQ(json(args)["max_bytes"], 2'000'000'000);
  env_["FOVEA_ARG_MAX_BYTES"] = "64KiB";
  EXPECT_EQ(json({"capture", "-m", kTiny, "x", "--hooks", "q0", "--estimate", "--json"})["max_bytes"], 65536);
  EXPECT_EQ(run(ask("500MB")).code, 0);
}

TEST_F(Arguments, VariablesHaveTheRangesOfTheirFlags) {
  const std::vector<std::pair<const char*, const char*>> bad = {{"FOVEA_ARG_N_PREDICT", "-2"},
                                                                {"FOVEA_ARG_SEED", "-2"},
                                                                {"FOVEA_ARG_THREADS", "1.5"},
                                                                {"FOVEA_ARG_REPACK", "-1"},
                                                                {"FOVEA_ARG_VERBOSE", "-1"},
                                                                {"FOVEA_ARG_JSON", "7"},
                                                                {"FOVEA_ARG_FREQUENCY_PENALTY", "nan"},
                                                                {"FOVEA_ARG_QUIET", "maybe"}};
  for (const auto& [name, value] : bad) {
    env_[name] = value;
    EXPECT_THAT(fails(2, {"run", "-m", kTiny, "hello"}), AllOf(HasSubstr(name), HasSubstr(value))) << name;
    env_.erase(name);
  }
  env_["FOVEA_ARG_QUIET"] = "1";
  EXPECT_EQ(run(hello({})).err, "");
}

TEST_F(Arguments, FlagsOfLlamaCppThatMeanTheSameAreTaken) {
  const Json plain = answer({});
  for (const std::vector<std::string>& flags : std::vector<std::vector<std::string>>{{"-ngl", "0"},
                                                                                     {"--n-gpu-layers", "0"},
                                                                                     {"-fa"},
                                                                                     {"-fa", "on"},
                                                                                     {"--flash-attn", "auto"},
                                                                                     {"-st"},
                                                                                     {"-sm", "none"},
                                                                                     {"--no-mmap"},
                                                                                     {"-nkvo"},
                                                                                     {"--jinja"}}) {
    EXPECT_EQ(answer(flags)["tokens"], plain["tokens"]) << flags[0];
    EXPECT_THAT(run(hello(flags)).err, Not(HasSubstr("unknown"))) << flags[0];
  }
  EXPECT_THAT(run(hello({"-ngl", "0"})).err, Not(HasSubstr("warning")));
  EXPECT_EQ(answer({"-ctk", "q8_0", "-ctv", "q8_0"})["cache_type"], "q8_0");
  EXPECT_EQ(answer({"-ctk", "q8_0"})["cache_type"], "q8_0/i16");
  EXPECT_EQ(answer({"--cache-type-v", "q8_0", "--cache-type", "i16"})["cache_type"], "i16/q8_0");
  EXPECT_EQ(answer({"-no-cnv"})["tokens"], answer({"--raw"})["tokens"]);
  EXPECT_EQ(answer({"-sys", "Be kind."})["tokens"], answer({"--system", "Be kind."})["tokens"]);
  EXPECT_EQ(answer({"--predict", "2"})["tokens"].size(), 2u);
  EXPECT_EQ(answer({"-l", "70+50"})["tokens"], answer({"--logit-bias", "70=50"})["tokens"]);
  EXPECT_EQ(answer({"-nr"})["repack_budget_bytes"], 0);
  EXPECT_EQ(run(hello({"-ub", "4", "-b", "2048"})).code, 0);
  stdin_ = file("turns", "hello\n");
  EXPECT_EQ(run({"chat", "-m", kTiny, "-cnv", "-n", "2"}).code, 0);
}

TEST_F(Arguments, FlagsOfLlamaCppThatDoNothingHereAreNamed) {
  for (const std::vector<std::string>& flags : std::vector<std::vector<std::string>>{
           {"-ngl", "99"}, {"-fa", "off"}, {"-tb", "4"}, {"-sm", "row"}, {"-np", "4"}, {"-lv", "3"}, {"--mlock"}}) {
    const Ended ended = run(hello(flags));
    EXPECT_EQ(ended.code, 0) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("warning: " + flags[0] + " is not needed here")) << flags[0];
    EXPECT_EQ(run(hello([&] {
                std::vector<std::string> quiet = flags;
                quiet.emplace_back("-q");
                return quiet;
              }()))
                  .err,
              "");
  }
}

TEST_F(Arguments, FlagsOfLlamaCppThatWouldAnswerOtherwiseAreRefused) {
  EXPECT_THAT(fails(2, hello({"-cnv"})), HasSubstr("fovea chat"));
  EXPECT_THAT(fails(2, hello({"-mli"})), HasSubstr("fovea run -f"));
  EXPECT_THAT(fails(2, hello({"-ctk", "q4_0"})), HasSubstr("i16"));
  EXPECT_EQ(answer({"-ctk", "f16", "-ctv", "f16"})["cache_type"], "i16");
  EXPECT_EQ(run(hello({"-ngl=0"})).code, 0);
  EXPECT_THAT(fails(2, hello({"--log-file", "-"})), HasSubstr("--log-file"));
  EXPECT_EQ(run({"help", "help"}).code, 0);
  env_["FOVEA_ISA"] = "";
  EXPECT_EQ(run(hello({})).code, 0);
  env_.clear();
  EXPECT_THAT(fails(2, hello({"-ctk", "q8_0", "-ctv", "f32"})), HasSubstr("f32 goes with f32"));
  EXPECT_THAT(fails(2, hello({"-hf", "a/b"})), HasSubstr("fovea pull"));
  EXPECT_THAT(fails(2, hello({"-md", "x.gguf"})), HasSubstr("--lookup"));
  EXPECT_THAT(fails(2, hello({"-mm", "x.gguf"})), HasSubstr("-mm:"));
  EXPECT_THAT(fails(2, hello({"--mirostat", "2"})), HasSubstr("--mirostat:"));
  EXPECT_THAT(fails(2, hello({"-ngl"})), HasSubstr("needs a value"));
}

TEST_F(Arguments, NoFlagOfSeveralLettersIsReadAsAnotherAndItsValue) {
  EXPECT_THAT(fails(2, hello({"-ngk", "3"})), AllOf(HasSubstr("\"-ngk\""), HasSubstr("-n gk")));
  EXPECT_THAT(fails(2, hello({"-mfoo"})), HasSubstr("\"-mfoo\""));
  EXPECT_THAT(fails(2, hello({"-xyz"})), HasSubstr("\"-xyz\""));
  EXPECT_THAT(fails(2, hello({"-qx"})), HasSubstr("\"-qx\""));
  EXPECT_EQ(answer({"-n2"})["tokens"].size(), 2u);  // a number behind its flag, and a cluster of flags
  EXPECT_THAT(run(hello({"-qv"})).err, HasSubstr("kernels"));
}

TEST_F(Arguments, ARandomSeedIsShown) {
  const Ended ended = run({"run", "-m", kTiny, "hello", "-n", "12", "--temp", "1", "--seed", "-1", "--json"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const Json drawn = Json::parse(ended.out);
  const std::string seed = drawn["seed"].dump();
  EXPECT_THAT(ended.err, HasSubstr("seed " + seed));
  EXPECT_EQ(json({"run", "-m", kTiny, "hello", "-n", "12", "--temp", "1", "--seed", seed, "--json"})["tokens"],
            drawn["tokens"]);
  EXPECT_NE(json({"run", "-m", kTiny, "hello", "-n", "1", "--seed", "-1", "--json"})["seed"], drawn["seed"]);
  EXPECT_THAT(run({"run", "-m", kTiny, "hello", "-n", "1", "-s", "3"}).err, Not(HasSubstr("seed")));
}

TEST_F(Arguments, TheLogAlsoGoesToAFile) {
  const std::string log = path("log");
  EXPECT_EQ(run(hello({"-ngl", "9", "-q", "--log-file", log})).code, 0);
  EXPECT_THAT(read_file(log).value(), HasSubstr("warning: -ngl is not needed here"));
  (void)run({"--log-file", log, "run", "-m", path("no\x1b.gguf"), "x"});
  const std::string text = read_file(log).value();
  EXPECT_THAT(text, AllOf(HasSubstr("warning: -ngl"), HasSubstr("error: "), Not(HasSubstr("\x1b"))));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_THAT(fails(66, hello({"--log-file", path("no/log")})), HasSubstr("--log-file"));
  EXPECT_THAT(fails(2, hello({"--log-file", root_.string()})), HasSubstr("--log-file"));
  EXPECT_EQ(run(hello({"--no-color"})).code, 0);
}

TEST_F(Arguments, AnEstimateReadsNoWeightAndNamesTheMemory) {
  const Json run_ = answer({"--estimate"});
  for (const char* key : {"prompt_tokens", "answer_tokens", "passes", "tokens_per_pass", "weights_bytes", "kv_bytes",
                          "activation_bytes", "total_bytes", "available_bytes"}) {
    EXPECT_TRUE(run_[key].is_number()) << key;
  }
  EXPECT_EQ(run_["answer_tokens"], 4);
  EXPECT_FALSE(run_.contains("text"));
  EXPECT_EQ(run_["prompt_tokens"], answer({})["timings"]["prompt_n"]);
  EXPECT_EQ(answer({"--estimate", "-b", "8"})["passes"], (run_["prompt_tokens"].get<int>() + 7) / 8);
  EXPECT_EQ(answer({"--estimate", "-n", "-1"})["answer_tokens"], 512 - run_["prompt_tokens"].get<int>());
  EXPECT_LT(answer({"--estimate", "--cache-type", "q8_0"})["kv_bytes"], run_["kv_bytes"]);
  EXPECT_LT(answer({"--estimate", "--attention", "streaming-llm:n_sink=0:window=1"})["prompt_gflop"],
            run_["prompt_gflop"]);
  EXPECT_THAT(fails(65, hello({"--estimate", "-c", "8"})), HasSubstr("holds 8"));
  const Json window = answer({"--estimate", "-n", "4000", "--attention", "streaming-llm:window=40"});
  EXPECT_EQ(window["answer_tokens"], 4000);  // past the context
  EXPECT_LT(window["kv_bytes"], answer({"--estimate", "-n", "-1"})["kv_bytes"]);
  EXPECT_THAT(fails(2, hello({"--estimate", "--attention", "nosuch"})), HasSubstr("nosuch"));
  EXPECT_THAT(fails(2, hello({"--estimate", "--attention", "streaming-llm:window=0"})), HasSubstr("window"));
  EXPECT_THAT(fails(66, hello({"--estimate", "--profile", path("no.json")})), HasSubstr("no.json"));
  EXPECT_THAT(fails(2, hello({"--estimate", "--quantize", "q9"})), HasSubstr("q9"));
  EXPECT_GT(answer({"--estimate", "--quantize", "f32"})["weights_bytes"], run_["weights_bytes"]);
  const Ended needs = run(hello({"--estimate", "--attention", "streaming-llm:full=0.5:window=20"}));
  EXPECT_EQ(needs.code, 0);
  EXPECT_THAT(needs.err, HasSubstr("the estimate is that of dense attention: streaming-llm needs the retrieval"));
  const std::string text = file("a.txt", "The cat is red.\n");
  const Json ask = json({"ask", "-m", kTiny, "-f", text, "Which colour?", "-n", "8", "--estimate", "--json"});
  const Json asked = json({"ask", "-m", kTiny, "-f", text, "Which colour?", "-n", "8", "--json"});
  EXPECT_EQ(ask["prompt_tokens"], asked["cost"]["prompt_tokens"]);
  EXPECT_GE(ask["kv_bytes"], asked["cost"]["kv_bytes"]);
  EXPECT_THAT(run({"ask", "-m", kTiny, "-f", text, "Which colour?", "--estimate"}).out, HasSubstr("memory"));
}

TEST_F(Arguments, LogprobsHaveTheShapeOfOpenAi) {
  const Json out = answer({"--logprobs", "3"});
  const Json& content = out["logprobs"]["content"];
  ASSERT_EQ(content.size(), out["tokens"].size());
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& row = content[i];
    EXPECT_EQ(row["id"], out["tokens"][i]["id"]);
    EXPECT_EQ(row["token"], out["tokens"][i]["piece"]);
    EXPECT_LE(row["logprob"], 0);
    EXPECT_TRUE(row["bytes"].is_array());
    ASSERT_EQ(row["top_logprobs"].size(), 3u);
    EXPECT_EQ(row["top_logprobs"][0]["token"], row["token"]);  // greedy
    EXPECT_GE(row["top_logprobs"][0]["logprob"], row["top_logprobs"][1]["logprob"]);
  }
  EXPECT_TRUE(answer({"--logprobs", "0"})["logprobs"]["content"][0]["top_logprobs"].empty());
  EXPECT_FALSE(answer({}).contains("logprobs"));
  EXPECT_THAT(fails(2, hello({"--logprobs", "1"})), HasSubstr("--json"));
}

TEST_F(Arguments, APenaltyKeepsAnAnswerFromRepeating) {
  const auto distinct = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = {"--ignore-eos", "-n", "40", "--logit-bias", "70=50", "--logit-bias", "71=49"};
    args.insert(args.end(), more.begin(), more.end());
    const Json out = answer(args);
    std::set<int> ids;
    for (const Json& token : out["tokens"]) ids.insert(token["id"].get<int>());
    return ids.size();
  };
  EXPECT_EQ(distinct({}), 1u);
  EXPECT_GT(distinct({"--presence-penalty", "2"}), 1u);
  EXPECT_GT(distinct({"--frequency-penalty", "1"}), 1u);
}

TEST_F(Arguments, AFileWithoutANameIsRefusedEverywhere) {
  const std::vector<std::vector<std::string>> all = {
      {"quantize", kTiny, path("o.gguf"), "--type", "q8_0", "-f", ""},
      {"quantize", kTiny, path("o.gguf"), "--type", "q8_0", "--importance", ""},
      {"quantize", kTiny, "", "--type", "q8_0"},
      {"data", "induction", "-o", ""},
      {"embed", "-m", kTiny, "x", "-o", ""},
      {"run", "-m", kTiny, "-f", ""},
      {"run", "-m", kTiny, "--raw", "--ids", ""},
      {"run", "-m", kTiny, "x", "--profile", ""},
      {"run", "-m", kTiny, "x", "--log-file", ""},
      {"template", "-m", kTiny, "--messages", ""},
      {"ask", "-m", kTiny, "--file", "", "why?"},
      {"convert", kTiny, ""},
      {"train", ""}};
  for (const auto& args : all) EXPECT_THAT(fails(2, args), HasSubstr("the name of the file is empty")) << args[0];
  EXPECT_THAT(fails(2, {"quantize", kTiny, path("o.gguf"), "--type", "q8_0", "-f", file("empty", "")}),
              HasSubstr("the text is empty"));
}

TEST_F(Arguments, AFolderIsRefusedAsAFileIsWhereItCannotBe) {
  const std::string config = file("c.json", R"({"model": {"net": "llama", "d_model": 16, "n_layers": 1, "n_heads": 2,
    "vocab_size": 24}, "data": {"generator": "copy", "length": 4}, "context": 9, "steps": 1, "out": ")" +
                                                path("c.json/x") + "\"}");
  EXPECT_THAT(fails(66, {"logits", "-m", kTiny, "x", "-o", config + "/x"}), HasSubstr("Not a directory"));
  EXPECT_THAT(fails(66, {"convert", kTiny, config + "/x"}), HasSubstr("Not a directory"));
  EXPECT_THAT(fails(66, {"train", config, "-q"}), HasSubstr("Not a directory"));
}

TEST_F(Arguments, FlagsOfLlamaCppsQuantizerAndConverterAreKnown) {
  EXPECT_THAT(fails(66, {"quantize", kTiny, path("o.gguf"), "--type", "q4_k", "--imatrix", path("none")}),
              HasSubstr("none"));
  EXPECT_THAT(fails(2, {"convert", kTiny, "--outfile", path("o.gguf")}), HasSubstr("fovea convert IN OUT"));
  EXPECT_THAT(fails(2, {"convert", kTiny, path("o.gguf"), "--outtype", "q8_0"}), HasSubstr("--type TYPE"));
  for (const char* type : {"q4_k_m", "Q4_K_S"})
    EXPECT_THAT(fails(2, {"quantize", kTiny, path("o.gguf"), "--type", type}), HasSubstr("here q4_k is the nearest"));
  EXPECT_THAT(fails(2, {"run", "-m", kTiny, "x", "--quantize", "Q3_K_L"}), HasSubstr("here q3_k is the nearest"));
}

}  // namespace cli_arguments_test
}  // namespace fovea
