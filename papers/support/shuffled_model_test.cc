#include "papers/support/shuffled_model.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "fovea/base/testing/paths.h"
#include "fovea/engine/session.h"

namespace fovea::papers {
namespace shuffled_model_test {

std::vector<float> logits_of(const std::shared_ptr<const engine::Model>& model) {
  const auto session = engine::Session::create(model, {});
  EXPECT_TRUE(session.has_value());
  return (*session)->prefill((*session)->begin(), std::vector<int32_t>{3, 4, 5, 6}).value();
}

TEST(ShuffledModel, IsAnotherOneForEverySeedAndLeavesNoFileBehind) {
  std::string cache = ::testing::TempDir() + "/shuffled-XXXXXX";
  ASSERT_NE(mkdtemp(cache.data()), nullptr);
  setenv("XDG_CACHE_HOME", cache.c_str(), 1);
  const auto model = engine::Model::load(source_dir() + "/tests/data/tiny-llama.gguf");
  ASSERT_TRUE(model.has_value()) << model.error().message;
  std::vector<std::vector<float>> logits = {logits_of(*model)};
  for (const uint64_t seed : {1u, 1u, 2u}) {
    const auto shuffled = shuffled_model(**model, seed);
    ASSERT_TRUE(shuffled.has_value()) << shuffled.error().message;
    EXPECT_FALSE(std::filesystem::is_empty(cache + "/fovea/papers"));
    EXPECT_TRUE((*shuffled)->sha256().has_value());  // as a profile needs it
    logits.push_back(logits_of(*shuffled));
  }
  EXPECT_EQ(logits[1], logits[2]);
  EXPECT_NE(logits[1], logits[0]);
  EXPECT_NE(logits[1], logits[3]);
  EXPECT_TRUE(std::filesystem::is_empty(cache + "/fovea/papers"));
  unsetenv("XDG_CACHE_HOME");
  std::filesystem::remove_all(cache);
}

}  // namespace shuffled_model_test
}  // namespace fovea::papers
