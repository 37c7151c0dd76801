// What commands read and write besides models: every kind of output file, texts that are none, JSON that is none,
// streams that fail, and signals.
#include <sys/stat.h>

#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_files_test {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

class CliFiles : public Cli {
 protected:
  bool left_behind() const {
    for (const auto& entry : fs::recursive_directory_iterator(root_))
      if (entry.path().filename().string().find(".part-") != std::string::npos) return true;
    return false;
  }
  mode_t kind_of(const std::string& name) const {
    struct stat info {};
    EXPECT_EQ(lstat(path(name).c_str(), &info), 0) << name;
    return info.st_mode & S_IFMT;
  }
  // Profiles of the tiny model find no needle, but are measured in no time.
  void SetUp() override {
    Cli::SetUp();
    std::string words;
    for (int i = 0; i < 300; ++i) words += "Line " + std::to_string(i) + " of a text. ";
    text_ = file("haystack", words);
  }
  std::vector<std::vector<std::string>> writers() const {
    return {{"logits", "-m", kTiny, "hi", "-q"},
            {"capture", "-m", kTiny, "hi", "--hooks", "q0", "-q"},
            {"importance", "-m", kTiny, "hello there, all of you", "-c", "4", "-q"},
            {"profile", "-m", kTiny, "-q", "--lengths", "440", "--depths", "1", "--file", text_}};
  }
  static std::vector<std::string> with(std::vector<std::string> args, const std::vector<std::string>& more) {
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  std::string text_;
  const std::string hi_ = R"([{"role": "user", "content": "hi"}])";
};

TEST_F(CliFiles, EveryWriterWritesThroughLinksDevicesAndFifos) {
  const bool devices = std::system(("mknod " + path("null") + " c 1 3 2>/dev/null").c_str()) == 0;
  for (const auto& args : writers()) {
    ASSERT_EQ(run(with(args, {"-o", path("plain")})).code, 0) << args[0];
    const std::string bytes = read_file(path("plain")).value();
    fs::create_symlink("real", path("link"));
    ASSERT_EQ(run(with(args, {"-o", path("link")})).code, 0) << args[0];
    EXPECT_EQ(kind_of("link"), static_cast<mode_t>(S_IFLNK)) << args[0];
    EXPECT_EQ(read_file(path("real")).value().size(), bytes.size());
    ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
    const pid_t child = spawn(kProgram, with(args, {"-o", path("fifo")}), path("o"));
    EXPECT_EQ(read_file(path("fifo")).value().size(), bytes.size()) << args[0];
    EXPECT_EQ(finish(child, path("o")).code, 0);
    EXPECT_EQ(kind_of("fifo"), static_cast<mode_t>(S_IFIFO)) << args[0];
    if (devices) {
      EXPECT_EQ(run(with(args, {"-o", path("null")})).code, 0) << args[0];
      EXPECT_EQ(kind_of("null"), static_cast<mode_t>(S_IFCHR)) << args[0];
    }
    EXPECT_THAT(fails(2, with(args, {"-o", root_.string()})), AllOf(HasSubstr("--output"), HasSubstr("a folder")));
    EXPECT_THAT(fails(66, with(args, {"-o", path("no/x")})), HasSubstr("no folder"));
    for (const char* name : {"plain", "link", "real", "fifo"}) fs::remove(path(name));
    EXPECT_FALSE(left_behind());
  }
}

TEST_F(CliFiles, NoWriterReplacesTheModelThatIsRead) {
  const std::string model = path("model.gguf");
  for (std::vector<std::string> args : writers()) {
    fs::copy_file(kTiny, model, fs::copy_options::overwrite_existing);
    std::replace(args.begin(), args.end(), kTiny, model);
    EXPECT_THAT(fails(2, with(args, {"-o", model})), AnyOf(HasSubstr("is being read"), HasSubstr("also the file")));
    EXPECT_EQ(read_file(model).value(), read_file(kTiny).value()) << args[0];
    EXPECT_FALSE(left_behind());
  }
}

TEST_F(CliFiles, ADashIsStandardOutputAlone) {
  for (const auto& args : writers()) {
    ASSERT_EQ(run(with(args, {"-o", path("plain")})).code, 0) << args[0];
    EXPECT_EQ(run(with(args, {"-o", "-"})).out.size(), read_file(path("plain")).value().size()) << args[0];
    EXPECT_THAT(fails(2, with(args, {"-o", "-", "--json"})), HasSubstr("--json"));
    std::string words;
    for (const std::string& arg : args) words += " " + arg;
    EXPECT_EQ(shell("cd $D; $FOVEA" + words + " -o - >o; ls ./- 2>e").out, "") << args[0];
  }
}

TEST_F(CliFiles, OverTheFileLimitTheOldFileStaysAndNothingIsLeft) {
  file("l.npy", "old");
  const Ended over = shell("ulimit -f 1; cd $D; exec $FOVEA logits -q -m $M 'some words' -o l.npy 2>&1");
  EXPECT_EQ(over.code, 74);
  EXPECT_THAT(over.out, AllOf(HasSubstr("l.npy"), HasSubstr("File too large")));
  EXPECT_EQ(read_file(path("l.npy")).value(), "old");
  EXPECT_FALSE(left_behind());
}

TEST_F(CliFiles, AskKeepsItsAnswerWhereOnlyItsStoreCannotBeWritten) {
  const std::string text = file("t.txt", std::string(300, 'a') + " the end.\n");
  const Ended over = shell("ulimit -f 4; exec $FOVEA ask -v -m $M -f " + text + " 'Who?' -n 4 --json");
  EXPECT_EQ(over.code, 0) << over.err;
  EXPECT_TRUE(Json::parse(over.out)["answer"].is_string());
  EXPECT_THAT(over.err, AllOf(HasSubstr("not stored"), HasSubstr("File too large")));
  EXPECT_FALSE(left_behind());
}

TEST_F(CliFiles, AnAnswerThatIsLostIsAnError) {
  file("m.json", hi_);
  for (const char* command :
       {"run -m $M hi -n 3", "list", "show $M", "check $M", "version", "--help", "tokenize -m $M hi", "completion bash",
        "methods", "template -m $M --messages $D/m.json", "logits -m $M hi -o -", "run -m $M hi -n 3 --json"}) {
    const std::string args = command;
    const bool silent = args == "list";  // an empty list prints nothing
    EXPECT_EQ(shell("exec $FOVEA " + args + " >&- 2>$D/e").code, 74) << args;
    if (!silent) {
      const Ended full = shell("ulimit -f 0; trap '' XFSZ; exec $FOVEA " + args + " >$D/o 2>/dev/null");
      EXPECT_EQ(full.code, 74) << args;
      const Ended left = shell("(sleep 0.1; exec $FOVEA " + args + ") 2>$D/e | true; exit ${PIPESTATUS[0]}");
      EXPECT_EQ(left.code, 0) << args;
    }
  }
}

TEST_F(CliFiles, AStderrThatCannotBeWrittenCostsNothingElse) {
  const std::string answer = run({"run", "-m", kTiny, "hi", "-n", "3"}).out;
  for (const char* stderr_to : {"2>&-", "2> >(exec true)"}) {
    const Ended ended = shell(std::string("$FOVEA run -v -m $M hi -n 3 ") + stderr_to);
    EXPECT_EQ(ended.code, 0) << stderr_to;
    EXPECT_EQ(ended.out, answer);
    EXPECT_EQ(shell(std::string("$FOVEA show nothing ") + stderr_to).code, 66) << stderr_to;
  }
}

TEST_F(CliFiles, JsonThatIsWrongIsRefusedWithLineAndColumnByEveryReader) {
  const std::string large = file("large.json", "[\n 1e400]"), twice = file("twice.json", "{\"a\": 1,\n\"a\": 2}"),
                    deep = file("deep.json", std::string(100'000, '['));
  const auto reads = [&](const std::string& name) -> std::vector<std::vector<std::string>> {
    return {{"template", "-m", kTiny, "--messages", name},
            {"run", "-m", kTiny, "hi", "--attention", "@" + name},
            {"run", "-m", kTiny, "hi", "--profile", name},
            {"profile", "-m", kTiny, "-q", "--lengths", "440", "--depths", "1", "--file", text_, "--against", name},
            {"detokenize", "-m", kTiny, "-f", name}};
  };
  for (const auto& args : reads(large)) EXPECT_THAT(fails(65, args), HasSubstr("line 2, column 2: the number 1e400"));
  for (const auto& args : reads(twice)) EXPECT_THAT(fails(65, args), HasSubstr("line 2, column 1: the key \"a\""));
  for (const auto& args : reads(deep)) EXPECT_THAT(fails(65, args), HasSubstr("nested deeper than 64"));
}

TEST_F(CliFiles, AProfileWithoutItsMeasurementIsNoFault) {
  const std::string sha = sha256_of_file(kTiny).value();
  Json heads = Json::array();
  for (int i = 0; i < 8; ++i) heads.push_back({{"layer", i / 4}, {"head", i % 4}, {"retrieval", 0.1 * i}});
  fs::create_directories(path("store/profiles"));
  for (const Json& measured : {Json(), Json("x"), Json::object(), Json{{"samples", "many"}}}) {
    file("store/profiles/" + sha + ".json",
         Json({{"version", 1}, {"model_sha256", sha}, {"heads", heads}, {"measured", measured}}).dump());
    const Ended ended = run({"profile", "-m", kTiny});
    EXPECT_EQ(ended.code, 0) << ended.err;
    EXPECT_THAT(ended.out, HasSubstr("samples    ? asked"));
  }
}

TEST_F(CliFiles, NamesThatAreNotUtf8EndInNoFault) {
  fs::copy_file(kTiny, path("m\xFF.gguf"));
  fs::copy_file(text_, path("t\xFF.txt"));
  EXPECT_EQ(run({"capture", "-m", path("m\xFF.gguf"), "hi", "--hooks", "q0", "-o", path("c")}).code, 0);
  const Ended profile = run({"profile", "-m", path("m\xFF.gguf"), "--lengths", "440", "--depths", "1", "--file",
                             path("t\xFF.txt"), "--json"});
  EXPECT_EQ(profile.code, 0) << profile.err;
  EXPECT_TRUE(Json::parse(profile.out).contains("heads"));
}

TEST_F(CliFiles, EveryReaderOfTextRefusesWhatIsNoneAndDecodesWhatIsCertain) {
  const std::string messages = file("m.json", hi_);
  const auto reads = [&](const std::string& name) -> std::vector<std::vector<std::string>> {
    return {{"ask", "-m", kTiny, "-f", name, "Which?", "-n", "2"},
            {"run", "-m", kTiny, "-n", "2", "-f", name},
            {"tokenize", "-m", kTiny, "-f", name},
            {"logits", "-m", kTiny, "-o", path("l"), "-f", name},
            {"capture", "-m", kTiny, "-o", path("c"), "--hooks", "q0", "-f", name},
            {"perplexity", "-m", kTiny, "-c", "8", "-f", name},
            {"bench", "-m", kTiny, "--quality", "-c", "8", "-f", name},
            {"template", "-m", kTiny, "--messages", messages, "--chat-template-file", name},
            {"profile", "-m", kTiny, "--lengths", "440", "--depths", "1", "--again", "--file", name}};
  };
  const std::string pdf = file("a.pdf", "%PDF-1.4\n1 0 obj\n"), model = file("m", "GGUF\x03");
  for (const auto& args : reads(pdf))
    EXPECT_THAT(fails(65, args), HasSubstr("a PDF, not plain text; its text: pdftotext"));
  for (const auto& args : reads(model)) EXPECT_THAT(fails(65, args), HasSubstr("a model (GGUF)"));
  std::string words;
  for (int i = 0; i < 300; ++i) words += "Das H\xE4uschen Nummer " + std::to_string(i) + " ist gr\xFCn.\n";
  const std::string name = file("latin1.txt", words.substr(0, 150)), longer = file("long.txt", words);
  for (auto args : reads(name)) {
    if (args[0] == "profile") args.back() = longer;
    const Ended ended = run(args);
    EXPECT_EQ(ended.code, 0) << args[0] << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("read as Windows-1252")) << args[0];
  }
  stdin_ = pdf;
  for (const auto& args : reads("-")) EXPECT_THAT(fails(65, args), HasSubstr("standard input: a PDF"));
  EXPECT_THAT(fails(65, {"chat", "-m", kTiny}), HasSubstr("a PDF"));
}

TEST_F(CliFiles, AHangupLeavesNothingAndEveryStopHasItsCode) {
  const std::string text = file("text", std::string(500, '#'));
  for (const auto& [signal, code] : {std::pair(SIGHUP, 129), std::pair(SIGINT, 130), std::pair(SIGTERM, 143)}) {
    // The file's first bytes wait in a pipe that nobody empties, so the program is met at work.
    ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
    const pid_t child = start({"logits", "-m", kTiny, "-q", "-f", path("fifo"), "-o", path("l.npy")});
    usleep(300'000);
    kill(child, signal);  // it waits for a writer of the FIFO
    const Ended waiting = finish(child);
    EXPECT_EQ(waiting.code, code);
    EXPECT_EQ(waiting.err, "fovea: interrupted\n");
    fs::remove(path("fifo"));

    const pid_t busy = start({"logits", "-m", kTiny, "-q", "-f", text, "-b", "1", "-o", path("l.npy")});
    while (!left_behind() && waitpid(busy, nullptr, WNOHANG) == 0) usleep(100);
    kill(busy, signal);
    const Ended ended = finish(busy);
    EXPECT_THAT(ended.code, AnyOf(code, 0));  // 0: it was faster
    EXPECT_FALSE(left_behind());
  }
}

TEST_F(CliFiles, ACommandThatWaitsForItsInputIsStoppedAtOnce) {
  ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"ask", "-m", kTiny, "-f", path("fifo"), "Which?"},
        {"run", "-m", kTiny, "-f", path("fifo")},
        {"tokenize", "-m", kTiny, "-f", path("fifo")},
        {"template", "-m", kTiny, "--messages", path("fifo")},
        {"detokenize", "-m", kTiny, "-f", path("fifo")},
        {"logits", "-m", kTiny, "hi", "-o", path("fifo")}}) {
    const pid_t child = start(args);
    usleep(300'000);
    kill(child, SIGINT);
    EXPECT_EQ(finish(child).code, 130) << args[0];
  }
}

TEST_F(CliFiles, AHangupThatIsIgnoredStaysIgnored) {
  const Ended ended =
      shell("trap '' HUP; $FOVEA bench -m $M -p 256 -n 0 -r 20 -q & p=$!; sleep 0.2; kill -HUP $p; wait $p");
  EXPECT_EQ(ended.code, 0) << ended.err;
}

TEST_F(CliFiles, ControlCharactersOfNamesAndFilesAreEscapedEverywhereButInTheAnswer) {
  const std::string evil = "e\x1b[31m\xC2\x9B\nfovea: x";
  fs::create_directories(path("store"));
  fs::copy_file(kTiny, path("store/" + evil + ".gguf"));
  const std::string text = file(evil + ".txt", "The cat \x1b[2Jis red.\n");
  file("m.json", hi_);
  const std::string model = path("store/" + evil + ".gguf");
  for (const std::vector<std::string>& args : {std::vector<std::string>{"list"},
                                               {"list", "--json"},
                                               {"show", model},
                                               {"show", evil},
                                               {"show", model, "--json"},
                                               {"show", path(evil)},
                                               {"check", model, "--strict"},
                                               {"check", text},
                                               {"run", "-v", "-m", model, "hi", "-n", "1", "--json"},
                                               {"run", "-m", model, "hi", "--attention", evil},
                                               {"run", "-m", model, "hi", "--logit-bias", evil},
                                               {"run", "-m", model, "hi", "--temp", evil},
                                               {"run", "-m", model, "hi", "--" + evil},
                                               {evil},
                                               {"pull", evil},
                                               {"methods", evil},
                                               {"completion", evil},
                                               {"tokenize", "-m", model, "a\x1b[31mb"},
                                               {"tokenize", "-m", model, "-f", path(evil)},
                                               {"template", "-m", evil, "--messages", path(evil)},
                                               {"detokenize", "-m", model, "--", evil},
                                               {"logits", "-m", model, "hi", "-o", path(evil) + "/x"},
                                               {"capture", "-m", model, "hi", "--hooks", evil, "-o", path("c")},
                                               {"capture", "-m", model, "hi", "--hooks", "q0", "-o", path("c" + evil)},
                                               {"bench", "-m", model, "-p", "4", "-n", "0", "-r", "1"},
                                               {"ask", "-m", model, "-f", text, "Which\x1b?", "-n", "1", "--json"},
                                               {"ask", "-m", kTiny, "-f", path(evil), "Which?"}}) {
    const Ended ended = run(args);
    for (const std::string& shown : {ended.out, ended.err}) {
      EXPECT_THAT(shown, AllOf(Not(HasSubstr("\x1b")), Not(HasSubstr("\xC2\x9B")))) << args[0];
      EXPECT_THAT(shown, Not(HasSubstr("\nfovea: x"))) << args[0];
    }
  }
  const Ended asked = run({"ask", "-m", kTiny, "-f", text, "Which?", "-n", "1"});
  const std::string evidence = asked.out.substr(asked.out.find("\nevidence\n"));
  EXPECT_THAT(evidence, AllOf(HasSubstr("The cat \\x1B[2Jis red."), HasSubstr("e\\x1B[31m"), Not(HasSubstr("\x1b"))));
}

TEST_F(CliFiles, AStoreThatCannotBeLookedIntoIsNoEmptyStore) {
  env_["FOVEA_MODELS"] = file("no-folder", "");
  EXPECT_THAT(fails(66, {"list"}), HasSubstr("Not a directory"));
  fs::create_symlink("loop", path("loop"));
  env_["FOVEA_MODELS"] = path("loop");
  fails(66, {"list"});
  fs::create_directory(path("store"));
  env_["FOVEA_MODELS"] = path("store");
  for (const mode_t mode : {0U, 0444U, 0111U}) {
    ASSERT_EQ(chmod(path("store").c_str(), mode), 0);
    const std::string become = geteuid() == 0 ? "exec setpriv --reuid=65534 --regid=65534 --clear-groups " : "exec ";
    ASSERT_EQ(chmod(root_.c_str(), 0755), 0);
    if (shell(become + "$FOVEA version").code != 0) GTEST_SKIP() << "the program cannot be run as another user";
    for (const char* command : {"list", "list --json", "show name", "run -m name hi"}) {
      const Ended ended = shell(become + "$FOVEA " + command);
      EXPECT_EQ(ended.code, 77) << command << mode << ended.err;
      EXPECT_THAT(ended.err, AllOf(HasSubstr("store"), HasSubstr("Permission denied")));
      EXPECT_EQ(ended.out, "");
    }
  }
}

TEST_F(CliFiles, APrefixStoreThatEveryoneMayWriteIntoIsNotBelieved) {
  const std::string text = file("t.txt", std::string(300, 'a') + " the end.\n");
  const std::vector<std::string> args = {
      "ask", "-v", "-m", kTiny, "-f", text, "Who?", "-n", "4", "--json", "--prefix-cache", path("kept")};
  run(args);
  EXPECT_GT(json(args)["cost"]["prefix_tokens"], 0);
  ASSERT_EQ(chmod(path("kept").c_str(), 0777), 0);
  const Ended open = run(args);
  EXPECT_EQ(Json::parse(open.out)["cost"]["prefix_tokens"], 0);
  EXPECT_THAT(open.err, HasSubstr("everyone may write"));
}

}  // namespace cli_files_test
}  // namespace fovea
