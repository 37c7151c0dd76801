#include "fovea/engine/prefix_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>  // mkdtemp
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <thread>
#include <utility>

#include "fovea/base/file.h"
#include "fovea/base/log.h"
#include "fovea/base/testing/paths.h"
#include "fovea/store/build_id.h"

namespace fovea::engine {
namespace prefix_store_test {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::shared_ptr<const Model> model(const std::string& name = "tiny-llama") {
  auto loaded = Model::load(source_dir() + "/tests/data/" + name + ".gguf");
  EXPECT_TRUE(loaded.has_value()) << loaded.error().message;
  return *loaded;
}

std::unique_ptr<Session> session_of(const SessionOptions& options = {}, const std::string& name = "tiny-llama") {
  auto session = Session::create(model(name), options);
  EXPECT_TRUE(session.has_value()) << session.error().message;
  return std::move(session).value();
}

// A document of `n` tokens and a question behind it.
std::vector<int32_t> prompt(int n, int question = 0) {
  std::vector<int32_t> ids;
  for (int i = 0; i < n; ++i) ids.push_back(3 + i * 7 % 250);
  for (int i = 0; i < 9; ++i) ids.push_back(4 + (question * 31 + i * 5) % 250);
  return ids;
}

constexpr int kShared = 100;
using Logits = std::vector<std::vector<float>>;

class PrefixStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = ::testing::TempDir() + "/prefix-XXXXXX";
    ASSERT_NE(mkdtemp(root_.data()), nullptr);
    options_.dir = root_ + "/cache";
    set_log_sink([this](LogLevel, std::string_view line) {
      const std::lock_guard lock(mutex_);
      log_.emplace_back(line);
    });
  }
  void TearDown() override {
    set_log_sink(nullptr);
    fs::remove_all(root_);
  }

  // What `ask` does: the shared part through the store, then the question, then a few tokens of answer.
  Logits ask(Session& session, const std::vector<int32_t>& ids, size_t n_shared = kShared) {
    PrefixStore store(options_);
    const auto found = store.find(session, ids, n_shared);
    const SequenceId sequence = found ? found->sequence : session.begin();
    n_found_ = found ? found->n_tokens : 0;
    EXPECT_EQ(session.length(sequence), n_found_);
    Logits out;
    for (const size_t end : {n_shared, ids.size()}) {
      const auto at = static_cast<size_t>(session.length(sequence));
      if (at < end) {
        const auto logits = session.prefill(sequence, std::span(ids).subspan(at, end - at));
        EXPECT_TRUE(logits.has_value()) << logits.error().message;
        if (end == ids.size()) out.push_back(*logits);
      }
      if (end == n_shared && at < end) store.remember(session, sequence, std::span(ids).first(n_shared));
    }
    for (const int32_t token : {5, 17, 9}) {
      const Session::Step step{sequence, token};
      const auto logits = session.decode({&step, 1});
      out.emplace_back(logits->values().begin(), logits->values().end());
    }
    store.flush(session);
    return out;
  }
  Logits ask(const std::vector<int32_t>& ids, const SessionOptions& options = {}) {
    return ask(*session_of(options), ids);
  }
  Logits without_store(const std::vector<int32_t>& ids, const SessionOptions& options = {}) {
    const std::string dir = std::exchange(options_.dir, "");
    Logits out = ask(ids, options);
    options_.dir = dir;
    return out;
  }
  std::vector<fs::path> files() const {
    std::vector<fs::path> out;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(options_.dir, none)) out.push_back(entry.path());
    return out;
  }
  std::string bytes_of(const fs::path& path) const { return read_file(path.string()).value(); }
  void put(const fs::path& path, const std::string& bytes) const {
    ASSERT_TRUE(write_file_atomic(path.string(), bytes).has_value());
  }

  std::string root_;
  PrefixStoreOptions options_;
  int32_t n_found_ = 0;
  std::mutex mutex_;
  std::vector<std::string> log_;
};

TEST_F(PrefixStoreTest, ASecondQuestionReadsTheQuestionOnlyAndGetsTheSameBits) {
  for (const kernels::Numerics numerics : {kernels::Numerics::kFast, kernels::Numerics::kExact}) {
    const SessionOptions options{.numerics = numerics};
    EXPECT_EQ(ask(prompt(kShared, 1), options), without_store(prompt(kShared, 1), options));
    EXPECT_EQ(n_found_, 0);
    const Logits expected = without_store(prompt(kShared, 2), options);
    EXPECT_EQ(ask(prompt(kShared, 2), options), expected);
    EXPECT_EQ(n_found_, kShared);
  }
  EXPECT_THAT(files(), SizeIs(2));
}

TEST_F(PrefixStoreTest, TheKeysThatWereReadCountAsIfReadNow) {
  auto first = session_of({.attention = "streaming-llm:window=40"}),
       second = session_of({.attention = "streaming-llm:window=40"});
  ask(*first, prompt(kShared, 1));
  ask(*second, prompt(kShared, 1));
  EXPECT_EQ(n_found_, kShared);
  EXPECT_EQ(second->key_count().seen, first->key_count().seen);
  EXPECT_EQ(second->key_count().dense, first->key_count().dense);
}

TEST_F(PrefixStoreTest, MethodsThatDropKeysGetTheSameBitsAtTheSameCutOnly) {
  const SessionOptions options{.chunk = 32, .attention = "streaming-llm:n_sink=2:window=20"};
  EXPECT_EQ(ask(prompt(kShared, 1), options), without_store(prompt(kShared, 1), options));
  const Logits expected = without_store(prompt(kShared, 2), options);
  EXPECT_EQ(ask(prompt(kShared, 2), options), expected);
  EXPECT_EQ(n_found_, kShared);
  ask(*session_of(options), prompt(kShared + 20), kShared + 20);  // the cut lies elsewhere
  EXPECT_EQ(n_found_, 0);
  ask(prompt(kShared), {.chunk = 16, .attention = options.attention});
  EXPECT_EQ(n_found_, 0);
}

TEST_F(PrefixStoreTest, MethodsThatDropKeysTakeNoPartOfALongerText) {
  const SessionOptions options{.attention = "streaming-llm:n_sink=2:window=20"};
  ask(*session_of(options), prompt(150), 150);
  const Logits expected = without_store(prompt(kShared), options);
  EXPECT_EQ(ask(prompt(kShared), options), expected);
  EXPECT_EQ(n_found_, 0);
}

TEST_F(PrefixStoreTest, DenseAttentionUsesWhatTwoDocumentsShare) {
  ask(prompt(kShared));
  std::vector<int32_t> longer = prompt(300);
  const Logits expected = [&] {
    PrefixStoreOptions kept = std::exchange(options_, {});
    Logits out = ask(*session_of(), longer, 300);
    options_ = kept;
    return out;
  }();
  EXPECT_EQ(ask(*session_of(), longer, 300), expected);
  EXPECT_EQ(n_found_, kShared);
  std::vector<int32_t> changed = longer;
  changed[80] = 3;
  ask(*session_of(), changed, 300);
  EXPECT_EQ(n_found_, 80);
  changed[PrefixStore::kLeastTokens - 1] = 3;  // too little is left
  ask(*session_of(), changed, 300);
  EXPECT_EQ(n_found_, 0);
  ask(*session_of(), std::vector<int32_t>(changed.begin(), changed.begin() + 100), 99);  // the last token is read
  EXPECT_EQ(n_found_, 99);
}

TEST_F(PrefixStoreTest, OtherSettingsDoNotMeet) {
  ask(prompt(kShared));
  for (const SessionOptions& options :
       {SessionOptions{.numerics = kernels::Numerics::kExact}, SessionOptions{.cache_type = kernels::KvType::kQ8_0},
        SessionOptions{.attention = "scale:value=0.5"}}) {
    ask(prompt(kShared), options);
    EXPECT_EQ(n_found_, 0);
  }
  ask(*session_of({}, "tiny-qwen2"), prompt(kShared));
  EXPECT_EQ(n_found_, 0);
  ask(prompt(kShared), {.chunk = 7});  // chunks change no bit of dense attention
  EXPECT_EQ(n_found_, kShared);
}

TEST_F(PrefixStoreTest, H22_ADamagedFileIsPassedOverAndWrittenAnew) {
  const Logits expected = ask(prompt(kShared));
  ASSERT_THAT(files(), SizeIs(1));
  const fs::path path = files()[0];
  const std::string good = bytes_of(path);
  std::vector<std::string> bad = {"", good + "x", std::string(good.size(), '\0')};
  for (const size_t cut : {size_t{1}, size_t{7}, size_t{63}, good.size() / 2, good.size() - 1})
    bad.push_back(good.substr(0, cut));
  for (size_t at = 0; at < good.size(); at += good.size() / 61) {
    bad.push_back(good);
    bad.back()[at] = static_cast<char>(bad.back()[at] ^ 4);
  }
  for (const std::string& bytes : bad) {
    put(path, bytes);
    log_.clear();
    EXPECT_EQ(ask(prompt(kShared)), expected);
    EXPECT_EQ(n_found_, 0);
    EXPECT_THAT(log_, Contains(HasSubstr("passed over")));
    EXPECT_EQ(bytes_of(path), good);
  }
  ask(prompt(kShared));
  EXPECT_EQ(n_found_, kShared);
}

// The same file with a field changed and its head's checksum made right again.
std::string resealed(std::string bytes, size_t at, const std::string& value) {
  bytes.replace(at, value.size(), value);
  uint32_t n_head = 0;
  std::memcpy(&n_head, bytes.data() + 12, 4);
  Sha256 hash;
  hash.add(std::as_bytes(std::span(bytes).first(n_head - 32)));
  const auto digest = hash.digest();
  std::memcpy(bytes.data() + n_head - 32, digest.data(), 32);
  return bytes;
}

TEST_F(PrefixStoreTest, H22_AnotherModelVersionOrBuildIsPassedOver) {
  const Logits expected = ask(prompt(kShared));
  const fs::path path = files()[0];
  const std::string good = bytes_of(path);
  const size_t model_at = good.find("model ") + 6, build_at = good.find("build ") + 6;
  ASSERT_EQ(good.substr(build_at, store::build_id().size()), store::build_id());
  for (const std::string& bytes : {resealed(good, 8, "\x01"), resealed(good, model_at, "0123456789"),
                                   resealed(good, build_at, "0123456789"), resealed(good, 32, "\x03")}) {
    put(path, bytes);
    EXPECT_EQ(ask(prompt(kShared)), expected);
    EXPECT_EQ(n_found_, 0);
  }
  put(path, resealed(good, 8, "\x03"));  // nothing changed
  ask(prompt(kShared));
  EXPECT_EQ(n_found_, kShared);
}

TEST_F(PrefixStoreTest, H22_LinksAreNeitherReadNorWrittenThrough) {
  ask(prompt(kShared));
  const fs::path path = files()[0], elsewhere = root_ + "/elsewhere";
  fs::rename(path, elsewhere);
  const std::string before = bytes_of(elsewhere);
  fs::create_symlink(elsewhere, path);
  ask(prompt(kShared));
  EXPECT_EQ(n_found_, 0);
  EXPECT_FALSE(fs::is_symlink(path));
  EXPECT_EQ(bytes_of(elsewhere), before);
  ask(prompt(kShared));
  EXPECT_EQ(n_found_, kShared);
}

TEST_F(PrefixStoreTest, AFolderThatCannotBeMadeCostsALogLineOnly) {
  const Logits expected = without_store(prompt(kShared));
  put(root_ + "/file", "x");
  for (const std::string& dir : {root_ + "/file", root_ + "/file/below", std::string("/proc/none/below")}) {
    options_.dir = dir;
    log_.clear();
    EXPECT_EQ(ask(prompt(kShared)), expected);
    EXPECT_THAT(log_, Contains(HasSubstr("not stored"))) << dir;
  }
}

TEST_F(PrefixStoreTest, AFullDiskLeavesNothingBehind) {
  const Logits expected = without_store(prompt(kShared));
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = signal(SIGXFSZ, SIG_IGN);  // then write() fails
  const rlimit small{20'000, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_EQ(ask(prompt(kShared)), expected);
  setrlimit(RLIMIT_FSIZE, &old);
  signal(SIGXFSZ, handler);
  EXPECT_THAT(log_, Contains(HasSubstr("not stored")));
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(PrefixStoreTest, TheLongestUnusedGoFirst) {
  ask(*session_of(), prompt(90, 1), 90);
  const uint64_t one = fs::file_size(files()[0]);
  options_.max_bytes = one * 5 / 2;
  std::vector<int32_t> other = prompt(90);
  std::reverse(other.begin(), other.end());
  ask(*session_of(), other, 90);
  ASSERT_THAT(files(), SizeIs(2));
  for (const fs::path& path : files()) fs::last_write_time(path, fs::last_write_time(path) - std::chrono::hours(1));
  ask(*session_of(), prompt(90, 2), 90);  // the first is used again
  EXPECT_EQ(n_found_, 90);
  std::vector<int32_t> third = prompt(90);
  third[0] = 1;
  ask(*session_of(), third, 90);
  EXPECT_THAT(files(), SizeIs(2));
  ask(*session_of(), prompt(90, 3), 90);
  EXPECT_EQ(n_found_, 90);
  ask(*session_of(), other, 90);
  EXPECT_EQ(n_found_, 0);
  options_.max_bytes = one / 2;
  log_.clear();
  ask(*session_of(), prompt(95, 1), 95);
  EXPECT_THAT(log_, Contains(HasSubstr("not stored")));
}

TEST_F(PrefixStoreTest, WhatAKilledWriterLeftGoesLaterAndIsNeverRead) {
  ask(prompt(kShared));
  const fs::path path = files()[0], part = path.string() + ".part-abcdef", fresh = path.string() + ".part-uvwxyz";
  fs::rename(path, part);
  put(fresh, "half");
  fs::last_write_time(part, fs::last_write_time(part) - std::chrono::hours(1));
  ask(prompt(kShared));
  EXPECT_EQ(n_found_, 0);
  EXPECT_FALSE(fs::exists(part));
  EXPECT_TRUE(fs::exists(fresh));  // another process may be at it
}

TEST_F(PrefixStoreTest, ManyAtOnceAllAnswerRight) {
  const Logits expected = without_store(prompt(kShared));
  std::vector<std::unique_ptr<Session>> sessions;
  for (int i = 0; i < 4; ++i) sessions.push_back(session_of());
  std::vector<std::thread> threads;
  std::vector<int> wrong(sessions.size(), 0);
  for (size_t i = 0; i < sessions.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 6; ++round) {
        PrefixStore store(options_);
        Session& session = *sessions[i];
        const std::vector<int32_t> ids = prompt(kShared);
        const auto found = store.find(session, ids, kShared);
        const SequenceId sequence = found ? found->sequence : session.begin();
        if (!found && !session.prefill(sequence, std::span(ids).first(kShared))) ++wrong[i];
        const auto logits = session.prefill(sequence, std::span(ids).subspan(kShared));
        if (!logits || *logits != expected[0]) ++wrong[i];
        std::vector<int32_t> cut = ids;
        cut.resize(kShared);
        const SequenceId again = session.fork(sequence);
        session.truncate(again, kShared);
        store.remember(session, again, cut);
        store.flush(session);
        session.remove(again);
        session.remove(sequence);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ::testing::Each(0));
  EXPECT_THAT(files(), SizeIs(1));
}

TEST_F(PrefixStoreTest, OnlyItsOwnerReadsIt) {
  ask(prompt(kShared));
  EXPECT_EQ(fs::status(options_.dir).permissions(), fs::perms::owner_all);
  EXPECT_EQ(fs::status(files()[0]).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(PrefixStoreTest, AHookAtWorkKeepsItOut) {
  auto session = session_of();
  ASSERT_TRUE(session->hooks().attach("blocks.0.attn.hook_k", [](const std::string&, Tensor&) {}).has_value());
  ask(*session, prompt(kShared));
  EXPECT_THAT(files(), IsEmpty());
}

}  // namespace prefix_store_test
}  // namespace fovea::engine
