// Folders as `save_pretrained` writes them (tools/make_tiny_hf.py) against what transformers makes of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "fovea/base/testing/paths.h"
#include "fovea/engine/session.h"
#include "fovea/kernels/vector.h"

namespace fovea::engine {
namespace folder_test {

class Folder : public ::testing::TestWithParam<const char*> {
 protected:
  static std::string path() { return source_dir() + "/tests/data/" + GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Tiny, Folder, ::testing::Values("tiny-llama-hf", "tiny-qwen2-hf"));

TEST_P(Folder, ExactLogitsAndGreedyTokensEqualTransformers) {
  std::ifstream in(source_dir() + "/tests/golden/logits/" + GetParam() + ".json");
  const auto want = nlohmann::json::parse(in);
  const auto model = Model::load(path());
  ASSERT_TRUE(model.has_value()) << model.error().message;
  const auto session = Session::create(*model, {.numerics = kernels::Numerics::kExact}).value();
  const SequenceId sequence = session->begin();
  std::vector<std::vector<float>> rows;
  PrefillOptions options;
  options.on_logits = [&](int64_t, const tensor::Tensor& logits) -> Status {
    for (int64_t i = 0; i < logits.dim(0); ++i)
      rows.emplace_back(logits.data() + i * logits.dim(1), logits.data() + (i + 1) * logits.dim(1));
    return {};
  };
  ASSERT_TRUE(session->prefill(sequence, want["ids"].get<std::vector<int32_t>>(), options).has_value());
  double worst = 0;
  for (size_t i = 0; i < want["positions"].size(); ++i) {
    const auto& row = rows[want["positions"][i].get<size_t>()];
    ASSERT_EQ(row.size(), want["logits"][i].size());
    for (size_t v = 0; v < row.size(); ++v)
      worst = std::max(worst, std::abs(row[v] - want["logits"][i][v].get<double>()));
  }
  EXPECT_LT(worst, 1e-4);  // the oracle itself moves by float64_diff between float32 and float64
  std::vector<float> last = rows.back();
  for (const auto& token : want["greedy"]) {
    ASSERT_EQ(kernels::argmax(last.data(), static_cast<int64_t>(last.size())), token.get<int64_t>());
    const Session::Step step{sequence, token.get<int32_t>()};
    const auto next = session->decode({&step, 1});
    ASSERT_TRUE(next.has_value()) << next.error().message;
    last.assign(next->values().begin(), next->values().end());
  }
}

}  // namespace folder_test
}  // namespace fovea::engine
