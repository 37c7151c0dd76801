// Every command that README.md, docs/*.md and papers/*/README.md show is run, so that no page shows one that is not
// there any more; what is not this program's (make, cmake, tools) is looked for. The tiny models stand in for the real
// ones under their names, and short texts for long ones. An HTML comment on the line before a block, which no reader
// sees, says what it needs:
//
//   <!-- file: policy.json -->   the block is this file, for the commands after it
//   <!-- exit: 2 -->             its commands end with this code, not 0
//   <!-- not run: why -->        it needs what a test machine has not
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "fovea/base/testing/paths.h"
#include "tests/cli_fixture.h"

namespace fovea {
namespace docs_commands_test {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::string kSource = source_dir();

struct Block {
  std::string page, text, file;
  int line = 0, code = 0;
  bool not_run = false;
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

std::vector<std::string> pages() {
  std::vector<std::string> out = {kSource + "/README.md"};
  for (const auto& entry : fs::directory_iterator(kSource + "/docs")) {
    if (entry.path().extension() == ".md") out.push_back(entry.path().string());
  }
  for (const auto& entry : fs::directory_iterator(kSource + "/papers")) {
    if (fs::exists(entry.path() / "README.md")) out.push_back((entry.path() / "README.md").string());
  }
  std::sort(out.begin() + 1, out.end());
  return out;
}

std::vector<Block> blocks_of(const std::string& page) {
  static const std::regex kMark("<!-- (file|exit|not run): (.*) -->");
  std::vector<Block> out;
  Block next;
  bool inside = false;
  int number = 0;
  for (const std::string& line : lines_of(read_file(page).value())) {
    ++number;
    std::smatch mark;
    if (line.starts_with("```")) {
      inside = !inside;
      if (inside) {
        next.page = fs::path(page).filename().string();
        next.line = number;
      } else {
        out.push_back(next);
        next = {};
      }
    } else if (inside) {
      next.text += line + "\n";
    } else if (std::regex_match(line, mark, kMark)) {
      if (mark[1] == "file") next.file = mark[2];
      if (mark[1] == "exit") next.code = std::stoi(mark[2]);
      if (mark[1] == "not run") next.not_run = true;
    }
  }
  return out;
}

// The text between single backticks, over line ends too, outside of blocks.
std::vector<std::string> code_spans(const std::string& page) {
  std::string text;
  bool inside = false;
  for (const std::string& line : lines_of(read_file(page).value())) {
    if (line.starts_with("```")) {
      inside = !inside;
      text += "\n";
    } else if (!inside) {
      text += line + (line.empty() ? "\n" : " ");
    }
  }
  static const std::regex kSpan("`([^`\n]+)`");
  std::vector<std::string> out;
  for (std::sregex_iterator it(text.begin(), text.end(), kSpan), end; it != end; ++it) out.push_back((*it)[1]);
  return out;
}

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

class DocsCommands : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    fs::create_directories(root_ / "store");
    fs::create_symlink(kTiny, root_ / "store/smollm2-135m.gguf");
    fs::create_symlink(kSource + "/tests/data/tiny-qwen2.gguf", root_ / "store/qwen2.5-coder-0.5b.gguf");
    fs::create_directories(root_ / "bin");
    fs::create_symlink(kProgram, root_ / "bin/fovea");
    fs::create_symlink(root_ / "bin", root_ / "build");
    for (const char* folder : {"tests", "docs", "examples"}) fs::create_symlink(kSource + "/" + folder, root_ / folder);
    fs::create_directories(root_ / "notes");
    fs::create_directories(root_ / ".local/share/bash-completion/completions");
    (void)file("notes/a.txt", "Ada wrote to Ben.\n");
    (void)file("notes/b.txt", "Ben did not answer.\n");
    (void)file("short.txt", "The licence was published by nobody.\n");
    std::string longer;
    for (int i = 0; i < 200; ++i) longer += "Line " + std::to_string(i) + " of a text.\n";
    (void)file("long.txt", longer);
  }

  Ended shell(std::string command) {
    // The tiny models read 512 tokens.
    const bool whole = command.find(" ask ") == std::string::npos && command.find(" chat ") == std::string::npos;
    const std::map<std::string, std::string> stand_ins = {
        {"/usr/share/common-licenses/GPL-3", whole ? "long.txt" : "short.txt"},
        {"19556 28 905", "70 71 72"}};  // ids that the tiny vocabulary has
    for (const auto& [real, small] : stand_ins) {
      for (size_t at; (at = command.find(real)) != std::string::npos;) command.replace(at, real.size(), small);
    }
    // To their end they run in CliTrain.ExamplesRun.
    if (command.find("train examples/") != std::string::npos) command += " --steps 4";
    const std::string script = file("command.sh", "cd " + root_.string() + "\n" + command + "\n");
    const std::string line = "env -i FOVEA_MODELS=" + path("store") + " HOME=" + root_.string() +
                             " PATH=" + path("bin") + ":/usr/bin:/bin bash " + script + " >" + path("out") + " 2>" +
                             path("err") + " </dev/null";
    const int status = std::system(line.c_str());
    Ended ended;
    ended.code = WEXITSTATUS(status);
    ended.out = read_file(path("out")).value();
    ended.err = read_file(path("err")).value();
    return ended;
  }

  // What a command of another program names must be there.
  static void look_for(const std::string& command, const std::string& where) {
    const std::vector<std::string> words = words_of(command);
    const std::string presets = read_file(kSource + "/CMakePresets.json").value();
    for (size_t i = 0; i < words.size() && words[i] != "#"; ++i) {
      const std::string& word = words[i];
      if (words[0] == "make" && i == 1) {
        EXPECT_THAT(read_file(kSource + "/Makefile").value(), HasSubstr("\n" + word + ":")) << where;
      }
      if (word == "--preset") {
        EXPECT_THAT(presets, HasSubstr("\"" + words[i + 1] + "\"")) << where;
      }
      if (word.starts_with("test_") || word.starts_with("build/test_")) {
        const std::string room = word.substr(word.find("test_") + 5);
        EXPECT_TRUE(room == "system" || fs::exists(kSource + "/fovea/" + room)) << where;
      }
      for (const char* folder : {"tools/", "bench/", "fovea/", "papers/", "tests/"}) {
        const bool named = word.starts_with(folder) && word.find("KIND") == std::string::npos;  // not a reader's own
        EXPECT_TRUE(!named || fs::exists(kSource + "/" + word)) << where << ": " << word;
      }
    }
  }

  // A command in a sentence may stop short of what it needs: its name and its flags must be there.
  void check_span(const std::string& span, const std::string& page) {
    const std::vector<std::string> words = words_of(span);
    if (words.size() < 2 || (words[0] != "fovea" && words[0] != "build/fovea")) return;
    static const std::set<std::string> kPlanned = {"leaderboard"};  // said to be missing
    const std::string& command = words[1];
    if (kPlanned.contains(command) || command[0] == '-' || command == "COMMAND") return;
    const Ended help = run({command, "--help"});
    EXPECT_EQ(help.code, 0) << page << ": " << span;
    for (const std::string& word : words) {
      if (word[0] != '-' || word.size() < 2 || std::isdigit(static_cast<unsigned char>(word[1]))) continue;
      const std::string flag = word.substr(0, word.find('='));
      const std::regex shown("(^|[ ,])" + flag + "[ ,\n]");
      EXPECT_TRUE(std::regex_search(help.out, shown)) << page << ": " << span << ": no " << flag;
    }
  }
};

TEST_F(DocsCommands, EveryCommandOfABlockRuns) {
  int n_run = 0;
  for (const std::string& page : pages()) {
    for (const Block& block : blocks_of(page)) {
      if (!block.file.empty()) (void)file(block.file, block.text);
      const bool prompts = ("\n" + block.text).find("\n$ ") != std::string::npos;
      for (std::string line : lines_of(block.text)) {
        if (prompts && !line.starts_with("$ ")) continue;  // what it prints
        if (prompts) line.erase(0, 2);
        const std::string where = block.page + ", block at line " + std::to_string(block.line) + ": " + line;
        const bool ours = line.starts_with("fovea ") || line.starts_with("build/fovea ") ||
                          line.find("| fovea ") != std::string::npos;
        if (!ours) {
          static const std::regex kOther("(make|cmake|ctest|python3|tools/\\S+|build/\\S+) .*");
          if (std::regex_match(line, kOther)) look_for(line, where);
          continue;
        }
        if (block.not_run) continue;
        const Ended ended = shell(line);
        EXPECT_EQ(ended.code, block.code) << where << "\n" << ended.err;
        ++n_run;
      }
    }
  }
  EXPECT_GE(n_run, 10);  // none are found where the pages are written in another way than this test reads
}

TEST_F(DocsCommands, EveryCommandInASentenceIsThere) {
  for (const std::string& page : pages()) {
    for (const std::string& span : code_spans(page)) check_span(span, fs::path(page).filename().string());
  }
}

TEST_F(DocsCommands, EveryExampleOfTheHelpRuns) {
  const std::string help = run({"--help"}).out;
  std::istringstream lines(help.substr(help.find("Subcommands:")));
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line) && line.starts_with("  ")) {
    if (line[2] == ' ') continue;
    const std::string name = line.substr(2, line.find(' ', 2) - 2);
    const std::string page = run({name, "--help"}).out;
    const std::string example = page.substr(page.find("Example:\n") + 9);
    if (name == "pull" || name == "embed") continue;  // one fetches, the other wants what was fetched
    std::string command = example.substr(0, example.find('\n'));
    command.erase(command.find_last_not_of(' ') + 1);
    if (name == "profile") command += " --lengths 400 --depths 1";  // minutes otherwise
    const Ended ended = shell(command);
    EXPECT_EQ(ended.code, 0) << command << "\n" << ended.err;
  }
}

}  // namespace docs_commands_test
}  // namespace fovea
