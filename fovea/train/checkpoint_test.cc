#include "fovea/train/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "fovea/base/file.h"

namespace fovea::train {
namespace checkpoint_test {

namespace fs = std::filesystem;
using tensor::Tensor;
using ::testing::HasSubstr;

class Checkpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/checkpoint-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  size_t n_files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  static NamedTensors tensors(float x) {
    NamedTensors out;
    out.emplace_back("param/w", Tensor::from({2, 2}, std::vector<float>{x, x + 1, x + 2, x + 3}));
    out.emplace_back("m/w", Tensor::from({2}, std::vector<float>{-x, 0}));
    return out;
  }
  void save(int64_t step, float x) {
    const Status saved = save_checkpoint(folder_, step, tensors(x), {{"step", step}});
    ASSERT_TRUE(saved.has_value()) << saved.error().message;
  }
  std::string problem(const NamedTensors& into) const {
    const auto state = read_checkpoint(folder_);
    if (!state) return state.error().message;
    const Status loaded = load_tensors(folder_, **state, into);
    return loaded ? "" : loaded.error().message;
  }
  std::string folder_;
};

TEST_F(Checkpoint, GivesBackWhatWasSavedAndKeepsOne) {
  EXPECT_FALSE(read_checkpoint(folder_)->has_value());
  save(5, 1);
  save(9, 10);
  save(9, 20);  // the same step again
  EXPECT_EQ(n_files(), 2u);
  NamedTensors into = tensors(0);
  EXPECT_EQ(problem(into), "");
  EXPECT_EQ((**read_checkpoint(folder_))["step"], 9);
  EXPECT_THAT(into[0].second.values(), ::testing::ElementsAre(20, 21, 22, 23));
  EXPECT_THAT(into[1].second.values(), ::testing::ElementsAre(-20, 0));
}

TEST_F(Checkpoint, WhatAKilledSaveLeftIsTakenAwayByTheNext) {
  save(1, 1);
  ASSERT_TRUE(write_file_atomic(folder_ + "/step-2.safetensors", "half").has_value());
  ASSERT_TRUE(write_file_atomic(folder_ + "/step-2.safetensors.part-abcdef", "half").has_value());
  ASSERT_TRUE(write_file_atomic(folder_ + "/state.json.part-abcdef", "{").has_value());
  EXPECT_EQ(problem(tensors(0)), "");
  save(2, 2);
  EXPECT_EQ(n_files(), 2u);
  EXPECT_EQ(problem(tensors(0)), "");
}

TEST_F(Checkpoint, OneThatWasCutOrChangedIsRefused) {
  save(1, 1);
  const std::string path = folder_ + "/step-1.safetensors";
  const std::string whole = *read_file(path);
  ASSERT_TRUE(write_file_atomic(path, whole.substr(0, whole.size() - 1)).has_value());
  EXPECT_THAT(problem(tensors(0)), HasSubstr("the checkpoint was cut or changed"));
  std::string flipped = whole;
  flipped.back() ^= 1;
  ASSERT_TRUE(write_file_atomic(path, flipped).has_value());
  EXPECT_THAT(problem(tensors(0)), HasSubstr("the checkpoint was cut or changed"));
  fs::remove(path);
  EXPECT_THAT(problem(tensors(0)), HasSubstr("step-1.safetensors"));
  for (const char* bad : {"{", "[]", "{\"tensors\": 3}", "{\"tensors\": \"../x\", \"sha256\": \"\"}"}) {
    ASSERT_TRUE(write_file_atomic(folder_ + "/state.json", bad).has_value());
    EXPECT_THAT(problem(tensors(0)), HasSubstr("state.json")) << bad;
  }
}

TEST_F(Checkpoint, TensorsThatDoNotFitAreNamedAndNothingIsRead) {
  save(1, 1);
  NamedTensors wide;
  wide.emplace_back("param/w", Tensor::zeros({2, 3}));
  wide.emplace_back("m/w", Tensor::zeros({2}));
  EXPECT_THAT(problem(wide), HasSubstr("tensor param/w is [2, 2] in the checkpoint and [2, 3] in the model"));
  NamedTensors more = tensors(7);
  more.emplace_back("v/w", Tensor::zeros({2}));
  EXPECT_THAT(problem(more), HasSubstr("has no tensor v/w"));
  EXPECT_EQ(more[0].second.data()[0], 7);
  NamedTensors fewer = tensors(0);
  fewer.pop_back();
  EXPECT_THAT(problem(fewer), HasSubstr("that this config has no place for"));
}

TEST_F(Checkpoint, AFailedSaveLeavesTheLastOne) {
  save(1, 1);
  fs::permissions(folder_, fs::perms::owner_read | fs::perms::owner_exec);
  if (geteuid() != 0) {  // to whom permissions say nothing
    EXPECT_FALSE(save_checkpoint(folder_, 2, tensors(2), {{"step", 2}}).has_value());
  }
  fs::permissions(folder_, fs::perms::owner_all);
  EXPECT_EQ(problem(tensors(0)), "");
}

}  // namespace checkpoint_test
}  // namespace fovea::train
