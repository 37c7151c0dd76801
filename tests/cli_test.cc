// The program as a user or a script meets it: exit codes, one sentence per error, JSON, manners.
#include <signal.h>
#include <sys/stat.h>

#include <sstream>

#include "fovea/store/catalogue.h"
#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_test {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::json;

// The names below "Subcommands:" of `fovea --help`.
std::vector<std::string> command_names(const std::string& help) {
  std::vector<std::string> names;
  std::istringstream lines(help.substr(help.find("Subcommands:")));
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line) && line.starts_with("  ")) {
    if (line[2] != ' ') names.push_back(line.substr(2, line.find(' ', 2) - 2));
  }
  return names;
}

TEST_F(Cli, EveryCommandHasHelpWithAnExample) {
  const Ended help = run({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_EQ(help.err, "");
  const auto names = command_names(help.out);
  for (const char* name : {"pull", "list", "show", "check", "completion", "version"})
    EXPECT_THAT(names, Contains(name));
  for (const std::string& name : names) {
    const Ended one = run({name, "--help"});
    EXPECT_EQ(one.code, 0) << name;
    EXPECT_THAT(one.out, AllOf(HasSubstr("--json"), HasSubstr("--threads"), HasSubstr("Example:\n  fovea " + name)))
        << name;
    EXPECT_EQ(run({name, "-h"}).code, 0) << name;
  }
}

TEST_F(Cli, AnswersVersionBothWays) {
  EXPECT_EQ(run({"--version"}).out, run({"version"}).out);
  EXPECT_THAT(run({"version"}).out, StartsWith("fovea "));
  EXPECT_TRUE(json({"version", "--json"}).contains("version"));
}

TEST_F(Cli, ATypoGetsTheNearestName) {
  EXPECT_THAT(fails(2, {"shwo", "x"}), HasSubstr("did you mean show?"));
  EXPECT_THAT(fails(2, {"show", "x", "--jsno"}), HasSubstr("did you mean --json?"));
  EXPECT_THAT(fails(2, {"show", "--jsno"}), HasSubstr("did you mean --json?"));  // and not that MODEL is missing
  EXPECT_THAT(fails(2, {"quant", "x"}), HasSubstr("did you mean quantize?"));
  EXPECT_THAT(fails(2, {"run", "x", "--ctx", "9"}), HasSubstr("did you mean --ctx-size?"));
  EXPECT_THAT(fails(2, {"xyzzyxyzzy"}), Not(HasSubstr("did you mean")));
  EXPECT_THAT(fails(2, {}), HasSubstr("--help"));
}

TEST_F(Cli, L2_WrongValuesNameTheFlagAndTheRange) {
  for (const char* value : {"0", "-1", "abc", "1e3", "99999999999"}) {
    EXPECT_THAT(fails(2, {"list", "-t", value}), AllOf(HasSubstr("--threads"), HasSubstr("1 to 1024"))) << value;
  }
  EXPECT_THAT(fails(2, {"list", "--threads="}), HasSubstr("no value"));
  EXPECT_THAT(fails(2, {"completion", "tcsh"}), HasSubstr("zsh"));
  EXPECT_THAT(fails(2, {"show"}), HasSubstr("MODEL"));
  EXPECT_THAT(fails(2, {"show", ""}), HasSubstr("empty"));
}

TEST_F(Cli, L6_AWrongVariableIsNamed) {
  env_["FOVEA_ARG_THREADS"] = "abc";
  EXPECT_THAT(fails(2, {"list"}), HasSubstr("FOVEA_ARG_THREADS"));
  EXPECT_EQ(run({"list", "-t", "1"}).code, 0);  // the flag wins
  env_.erase("FOVEA_ARG_THREADS");
  env_.erase("FOVEA_MODELS");
  env_.erase("HOME");
  EXPECT_THAT(fails(2, {"list"}), HasSubstr("HOME"));
}

TEST_F(Cli, L1_WhatIsNoModelEndsInOneSentenceAndItsCode) {
  EXPECT_THAT(fails(65, {"show", file("empty.gguf", "")}), HasSubstr("not a model"));
  EXPECT_THAT(fails(65, {"show", root_.string()}), HasSubstr("not a model: the folder has no config.json"));
  EXPECT_THAT(fails(66, {"show", path("none.gguf")}), HasSubstr("none.gguf"));
  EXPECT_THAT(fails(66, {"show", "nosuchmodel"}), HasSubstr("fovea pull"));
  EXPECT_THAT(fails(66, {"show", "./" + std::string(5000, 'x')}), HasSubstr("xxx"));
  EXPECT_THAT(fails(66, {"show", path("a\x1b[2J\nb.gguf")}), Not(HasSubstr("\x1b")));
  fs::create_symlink(path("loop.gguf"), path("loop.gguf"));
  (void)fails(66, {"show", path("loop.gguf")});
  fs::copy_file(kTiny, path("it's \"x\" \xC3\xA9.gguf"));
  EXPECT_EQ(run({"show", path("it's \"x\" \xC3\xA9.gguf")}).code, 0);
  if (geteuid() == 0) return;  // root may read everything
  ASSERT_EQ(chmod(file("secret.gguf", "GGUF").c_str(), 0), 0);
  (void)fails(77, {"show", path("secret.gguf")});
}

TEST_F(Cli, ShowHasTheKeysThatScriptsRelyOn) {
  const Json show = json({"show", "--json", kTiny});
  EXPECT_EQ(show["architecture"], "llama");
  const std::map<std::string, int> sizes = {{"n_layers", 2}, {"n_heads", 4}, {"n_kv_heads", 2},   {"head_dim", 16},
                                            {"d_model", 64}, {"d_ff", 128},  {"vocab_size", 300}, {"n_ctx", 512}};
  for (const auto& [key, value] : sizes) EXPECT_EQ(show[key], value) << key;
  EXPECT_EQ(show["path"], kTiny);
  EXPECT_EQ(show["tensors"].size(), 21u);
  EXPECT_EQ(show["tensors"][0], Json({{"name", "token_embd.weight"},
                                      {"dtype", "Q8_0"},
                                      {"shape", {300, 64}},
                                      {"bytes", 300 * 68},
                                      {"packed_bytes", 304 * 68}}));
  EXPECT_THAT(show["chat_template"].get<std::string>(), HasSubstr("<|im_start|>"));
  EXPECT_THAT(show["hooks"].get<std::vector<std::string>>(), Contains("blocks.1.attn.hook_pattern"));
  EXPECT_THAT(run({"show", kTiny}).out, HasSubstr("Q4_1"));
}

TEST_F(Cli, ListHasTheKeysThatScriptsRelyOn) {
  EXPECT_EQ(json({"list", "--json"}), Json({{"models", Json::array()}}));
  fs::create_directories(root_ / "store");
  fs::copy_file(kTiny, root_ / "store/tiny.gguf");
  const Json models = json({"list", "--json"})["models"];
  ASSERT_EQ(models.size(), 1u);
  for (const char* key : {"name", "path", "bytes", "architecture", "quantization", "n_params", "n_ctx"})
    EXPECT_TRUE(models[0].contains(key)) << key;
  EXPECT_EQ(json({"show", "tiny", "--json"})["d_model"], 64);
}

TEST_F(Cli, CheckJudgesFilesAndPrintsItsCaps) {
  EXPECT_EQ(run({"check", kTiny}).out, "ok\n");
  EXPECT_TRUE(json({"check", kTiny, "--strict", "--json"})["ok"]);
  const std::string tiny = read_file(kTiny).value();
  const Ended cut = run({"check", "--json", file("cut.gguf", tiny.substr(0, tiny.size() - 10))});
  EXPECT_EQ(cut.code, 65);
  const Json report = Json::parse(cut.out, nullptr, false);
  EXPECT_EQ(report["ok"], false);
  EXPECT_THAT(report["problems"][0]["message"].get<std::string>(), HasSubstr("10 bytes short"));
  EXPECT_FALSE(report["problems"][0]["where"].get<std::string>().empty());
  std::string nan = tiny;
  nan.replace(nan.size() - 64, 4, "\xff\xff\xff\xff");  // in output_norm.weight
  EXPECT_THAT(fails(65, {"check", file("nan.gguf", nan)}), AllOf(HasSubstr("output_norm.weight"), HasSubstr("NaN")));
  const std::string odd = file("trailing.gguf", tiny + "x");
  EXPECT_EQ(run({"check", odd}).code, 0);
  EXPECT_EQ(run({"check", odd, "--strict"}).code, 65);
  EXPECT_GT(json({"check", "--limits", "--json"})["limits"]["gguf.tensors"], 0);
}

// `bytes` with the one occurrence of `from` replaced by as many bytes.
std::string replaced(std::string bytes, const std::string& from, const std::string& to) {
  const size_t at = bytes.find(from);
  EXPECT_TRUE(at != bytes.npos && from.size() == to.size()) << from;
  return bytes.replace(at, from.size(), to);
}

TEST_F(Cli, CheckSaysWhatRunSays) {
  const std::string tiny = read_file(kTiny).value(), u32("\x04\0\0\0", 4);
  const std::map<std::string, std::string> files = {
      {"pre", replaced(tiny, "smollm", "smoll?")},
      {"kind", replaced(tiny, "gpt2", "gpt9")},
      {"template", replaced(tiny, "{% for", "{% fox")},
      {"refusing", replaced(tiny, "{% for message in messages", "{{raise_exception('so')}} ")},
      {"key", replaced(tiny, "llama.context_length", "llama.context_lengtH")},
      {"unknown", replaced(tiny, "llama.rope.dimension_count", "llama.rope.dimension_kinds")},
      {"uncounted", replaced(tiny, "llama.block_count" + u32 + '\2', "llama.block_count" + u32 + '\1')},
      {"stray", replaced(tiny, "blk.0.attn_q.weight", "blk.0.attn_q.wright")}};
  for (const auto& [name, bytes] : files) {
    const std::string path = file(name + ".gguf", bytes);
    const std::string said = fails(65, {"run", "-m", path, "-n", "1", "Hi"}).substr(std::string("fovea: ").size());
    const Json report = Json::parse(run({"check", path, "--json"}).out, nullptr, false);
    EXPECT_EQ(report["ok"], false) << name;
    std::vector<std::string> messages;
    for (const Json& problem : report["problems"]) messages.push_back(problem["message"].get<std::string>() + "\n");
    EXPECT_THAT(messages, Contains(said)) << name;
    EXPECT_EQ(run({"check", path}).code, 65) << name;
  }
}

TEST_F(Cli, PullOffersWhatRuns) {
  const std::string help = run({"pull", "--help"}).out;
  for (const store::CatalogueModel& model : store::catalogue()) {
    const bool runs = store::can_run(model);
    EXPECT_EQ(help.find(model.name) != help.npos, runs) << model.name;
    if (runs) continue;
    EXPECT_THAT(fails(66, {"run", "-m", model.name, "Hi"}), HasSubstr("cannot run here"));
    EXPECT_THAT(fails(65, {"ask", "-m", model.name, "--file", file("t", "text"), "Who?"}), HasSubstr("cannot run"));
    EXPECT_THAT(run({"pull", model.name}).err, HasSubstr("cannot run here"));  // no python3 to fetch it with
  }
}

TEST_F(Cli, L3_AClosedPipeEndsQuietlyAndAFullDiskDoesNot) {
  const std::string command =
      "(sleep 0.2; exec " + kProgram + " show " + kTiny + " --hooks) | true; echo ${PIPESTATUS[0]}";
  FILE* pipe = popen(("bash -c '" + command + "' 2>&1").c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  char line[256] = "";
  EXPECT_NE(fgets(line, sizeof(line), pipe), nullptr);
  pclose(pipe);
  EXPECT_STREQ(line, "0\n");
  if (!fs::exists("/dev/full")) return;
  const Ended full = run({"version"}, "/dev/full");
  EXPECT_EQ(full.code, 74);
  EXPECT_THAT(full.err, HasSubstr("standard output"));
}

TEST_F(Cli, TwoDashesEndTheOptions) { EXPECT_THAT(fails(66, {"show", "--", "--json"}), HasSubstr("\"--json\"")); }

TEST_F(Cli, L4_AnInterruptedPullLeavesNothing) {
  fs::create_directories(root_ / "bin");
  const std::string python = file("bin/python3", "#!/bin/sh\necho started > \"$STARTED\"\nexec sleep 60\n");
  chmod(python.c_str(), 0755);
  const std::string command =
      "export PATH=" + path("bin") + ":/usr/bin:/bin STARTED=" + path("started") + " FOVEA_MODELS=" + path("store") +
      "; " + kProgram + " pull smollm2-135m 2>" + path("err") +
      " & p=$!; for i in $(seq 100); do [ -e $STARTED ] && break; sleep 0.05; done; kill -INT $p; wait $p; exit $?";
  // A shell without job control starts background jobs with SIGINT ignored: bash -m does not.
  const int status = std::system(("bash -m -c '" + command + "' 2>/dev/null").c_str());
  EXPECT_EQ(WEXITSTATUS(status), 130);
  EXPECT_THAT(read_file(path("err")).value(), HasSubstr("interrupted"));
  for (const auto& entry : fs::directory_iterator(root_ / "store")) EXPECT_EQ(entry.path().filename(), ".pull.lock");
}

TEST_F(Cli, CompletionScriptsNameEveryCommand) {
  for (const char* shell : {"bash", "zsh", "fish"})
    EXPECT_THAT(run({"completion", shell}).out, AllOf(HasSubstr("show"), HasSubstr("strict"))) << shell;
  const std::string script = file("fovea.bash", run({"completion", "bash"}).out);
  EXPECT_EQ(std::system(("bash -n " + script).c_str()), 0);
}

}  // namespace cli_test
}  // namespace fovea
