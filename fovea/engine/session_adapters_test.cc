#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

#include "fovea/base/testing/paths.h"
#include "fovea/engine/prefix_store.h"
#include "fovea/engine/session.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::engine {
namespace session_adapters_test {

using tensor::Adapters;
using tensor::random_tensor;
using ::testing::HasSubstr;
using Logits = std::vector<std::vector<float>>;

constexpr const char* kLora[] = {"blk.0.attn_q.weight", "blk.0.attn_v.weight", "blk.1.attn_output.weight",
                                 "model.layers.1.mlp.gate_proj.weight", "blk.1.ffn_down.weight"};

class SessionAdapters : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto model = Model::load(source_dir() + "/tests/data/" + GetParam() + ".gguf");
    ASSERT_TRUE(model.has_value()) << model.error().message;
    model_ = *model;
  }
  const tensor::Weight& weight(const char* name) const {
    const auto found = model_->weight(name);
    EXPECT_TRUE(found.has_value()) << found.error().message;
    return **found;
  }
  std::unique_ptr<Session> session(std::shared_ptr<const Adapters> adapters, int chunk = 512) const {
    auto made = Session::create(model_, {.chunk = chunk, .adapters = std::move(adapters)});
    EXPECT_TRUE(made.has_value()) << made.error().message;
    return std::move(made).value();
  }
  std::shared_ptr<const Adapters> loras(uint64_t seed) const {
    auto adapters = std::make_shared<Adapters>();
    for (const char* name : kLora) {
      const tensor::Weight& w = weight(name);
      const Status added = adapters->add(
          w, tensor::Lora{random_tensor({2, w.cols()}, seed, 0.1), random_tensor({w.rows(), 2}, seed + 1, 0.1)});
      EXPECT_TRUE(added.has_value()) << added.error().message;
    }
    return adapters;
  }
  static Logits all_logits(Session& session, const std::vector<int32_t>& ids) {
    Logits rows;
    PrefillOptions options;
    options.on_logits = [&](int64_t, const Tensor& logits) -> Status {
      for (int64_t i = 0; i < logits.dim(0); ++i)
        rows.emplace_back(logits.data() + i * logits.dim(1), logits.data() + (i + 1) * logits.dim(1));
      return {};
    };
    const SequenceId sequence = session.begin();
    const auto done = session.prefill(sequence, ids, options);
    EXPECT_TRUE(done.has_value()) << done.error().message;
    session.remove(sequence);
    return rows;
  }

  std::shared_ptr<const Model> model_;
  const std::vector<int32_t> ids_ = {5, 17, 3, 99, 42, 7, 7, 12, 60, 1, 30, 8, 77};
};
INSTANTIATE_TEST_SUITE_P(Families, SessionAdapters, ::testing::Values("tiny-llama", "tiny-qwen2"));

TEST_P(SessionAdapters, SessionsOfOneModelHaveEachItsOwn) {
  const auto plain = session(nullptr), a = session(loras(1)), b = session(loras(5));
  const Logits of_plain = all_logits(*plain, ids_), of_a = all_logits(*a, ids_), of_b = all_logits(*b, ids_);
  EXPECT_NE(of_a, of_plain);
  EXPECT_NE(of_a, of_b);
  EXPECT_EQ(all_logits(*plain, ids_), of_plain);
  EXPECT_EQ(all_logits(*session(loras(1)), ids_), of_a);
}

TEST_P(SessionAdapters, ChunksAndTokensOneByOneChangeNoBit) {
  const auto whole = session(loras(1)), chunked = session(loras(1), 4);
  const Logits expected = all_logits(*whole, ids_);
  EXPECT_EQ(all_logits(*chunked, ids_), expected);
  const SequenceId sequence = whole->begin();
  for (size_t i = 0; i < ids_.size(); ++i) {
    const Session::Step step{sequence, ids_[i]};
    const auto logits = whole->decode({&step, 1});
    ASSERT_TRUE(logits.has_value()) << logits.error().message;
    EXPECT_EQ(std::vector<float>(logits->values().begin(), logits->values().end()), expected[i]) << i;
  }
}

TEST_P(SessionAdapters, ATokenWithTheRowOfAnotherIsRead) {
  const tensor::Weight& table = weight("token_embd.weight");
  const tensor::Tensor values = tensor::weight_values(table);
  const auto row = values.values().subspan(static_cast<size_t>(3 * table.cols()), static_cast<size_t>(table.cols()));
  auto adapters = std::make_shared<Adapters>();
  ASSERT_TRUE(adapters->add(table, tensor::Rows{tensor::Tensor::from({1, table.cols()}, row), 99, true}));
  std::vector<int32_t> as_if = ids_;
  std::ranges::replace(as_if, 99, 3);
  Logits found = all_logits(*session(adapters), ids_), expected = all_logits(*session(nullptr), as_if);
  for (Logits* logits : {&found, &expected}) {
    for (auto& one : *logits) one[99] = 0;  // the table makes the logits too
  }
  EXPECT_EQ(found, expected);
}

TEST_P(SessionAdapters, WhatWasReadWithThemIsNotStoredAsAPrefix) {
  const std::string dir = ::testing::TempDir() + "session-adapters-" + std::to_string(getpid());
  std::filesystem::remove_all(dir);
  std::vector<int32_t> ids(PrefixStore::kLeastTokens + 10);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i % 90);
  PrefixStore store({.dir = dir});
  const auto remember = [&](Session& session) {
    const SequenceId sequence = session.begin();
    EXPECT_TRUE(session.prefill(sequence, ids).has_value());
    store.remember(session, sequence, ids);
    store.flush(session);
    return store.find(session, ids, ids.size()).has_value();
  };
  EXPECT_FALSE(remember(*session(loras(1))));
  ASSERT_TRUE(remember(*session(nullptr)));
  EXPECT_FALSE(store.find(*session(loras(1)), ids, ids.size()).has_value());
  std::filesystem::remove_all(dir);
}

TEST_P(SessionAdapters, AWeightThatIsNotThereIsRefusedByName) {
  const auto found = model_->weight("blk.9.attn_q.weight");
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code, ErrorCode::kUsage);
  EXPECT_THAT(found.error().message, HasSubstr("blk.9.attn_q.weight"));
}

}  // namespace session_adapters_test
}  // namespace fovea::engine
