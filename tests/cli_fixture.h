// Runs the program as a user or a script does: arguments in, exit code and both streams out, in a
// folder and an environment of the test's own.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"

namespace fovea {

inline const std::string kProgram = build_dir() + "/fovea";
inline const std::string kTiny = source_dir() + "/tests/data/tiny-llama.gguf";

struct Ended {
  int code = -1;
  std::string out, err;
};

class Cli : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/cli-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    env_["FOVEA_MODELS"] = (root_ / "store").string();
    env_["PATH"] = "/usr/bin:/bin";
    env_["HOME"] = root_.string();
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  Ended run(const std::vector<std::string>& args, const std::string& out = "") { return finish(start(args, out), out); }
  // The two halves of run(), for what is done to the program while it is at work.
  pid_t start(const std::vector<std::string>& args, const std::string& out = "") { return spawn(kProgram, args, out); }
  // A script of bash in this folder, with $FOVEA the program and $M a model.
  Ended shell(const std::string& script) { return finish(spawn("/bin/bash", {"-c", script}, "")); }
  pid_t spawn(const std::string& program, const std::vector<std::string>& args, const std::string& out) {
    const std::string out_path = out.empty() ? path("out") : out, err_path = path("err");
    std::vector<std::string> words = {program};
    std::vector<std::string> variables = {"FOVEA=" + kProgram, "M=" + kTiny, "D=" + root_.string()};
    words.insert(words.end(), args.begin(), args.end());
    for (const auto& [name, value] : env_) variables.push_back(name + "=" + value);
    std::vector<char*> argv, envp;
    for (std::string& word : words) argv.push_back(word.data());
    for (std::string& variable : variables) envp.push_back(variable.data());
    argv.push_back(nullptr);
    envp.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, stdin_.c_str(), O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, out_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_addopen(&files, 2, err_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    // However the tests were started: a job in the background of a script ignores Ctrl+C.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t defaults;
    sigemptyset(&defaults);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGXFSZ}) sigaddset(&defaults, signal);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    pid_t child = 0;
    EXPECT_EQ(posix_spawn(&child, program.c_str(), &files, &attributes, argv.data(), envp.data()), 0);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return child;
  }
  Ended finish(pid_t child, const std::string& out = "") {
    const std::string out_path = out.empty() ? path("out") : out, err_path = path("err");
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    Ended ended;
    ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (out.empty()) ended.out = read_file(out_path).value();
    ended.err = read_file(err_path).value();
    return ended;
  }
  // A run that must fail with `code`, nothing on stdout and one sentence, which is returned.
  std::string fails(int code, const std::vector<std::string>& args) {
    const Ended ended = run(args);
    EXPECT_EQ(ended.code, code) << ended.err;
    EXPECT_EQ(ended.out, "");
    EXPECT_THAT(ended.err, ::testing::StartsWith("fovea: "));
    EXPECT_EQ(std::count(ended.err.begin(), ended.err.end(), '\n'), 1) << ended.err;
    return ended.err;
  }
  nlohmann::json json(const std::vector<std::string>& args) {
    const Ended ended = run(args);
    EXPECT_EQ(ended.code, 0) << ended.err;
    return nlohmann::json::parse(ended.out, nullptr, false);
  }
  std::string path(const std::string& name) const { return (root_ / name).string(); }
  std::string file(const std::string& name, const std::string& content) const {
    EXPECT_TRUE(write_file_atomic(path(name), content).has_value());
    return path(name);
  }

  std::string stdin_ = "/dev/null";  // the file that runs read as standard input
  std::filesystem::path root_;
  std::map<std::string, std::string> env_;
};

}  // namespace fovea
