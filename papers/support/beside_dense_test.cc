#include "papers/support/beside_dense.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "fovea/base/testing/paths.h"
#include "papers/support/made_layer.h"

namespace fovea::papers {
namespace beside_dense_test {

void on_tiny_model(const std::function<void(Run&)>& check) {
  const auto model = engine::Model::load(source_dir() + "/tests/data/tiny-llama.gguf");
  ASSERT_TRUE(model.has_value()) << model.error().message;
  const Paper paper{.slug = "a-paper"};
  const RunOptions options{.numerics = kernels::Numerics::kExact};
  Report report;
  Run run(paper, *model, options, report);
  check(run);
}

std::vector<RowBeside> rows_beside(Run& run, const std::string& attention) {
  std::vector<int32_t> tokens(60);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(5 + i * i % 200);
  std::vector<RowBeside> out;
  const Status status = beside_dense(
      run, tokens, {.attention = attention, .n_decoded = 2, .numerics = kernels::Numerics::kExact, .with_values = true},
      [&](const RowBeside& row) { out.push_back(row); });
  EXPECT_TRUE(status.has_value());
  return out;
}

TEST(BesideDense, SeesWhatAMethodReadsOnTheQueriesOfDenseAttention) {
  on_tiny_model([](papers::Run& run) {
    const std::vector<RowBeside> alone = rows_beside(run, "dense"),
                                 beside = rows_beside(run, "streaming-llm:n_sink=2:window=10:positions=text");
    const attention::ModelShape& shape = run.model()->shape();
    ASSERT_EQ(beside.size(), static_cast<size_t>(2 * shape.n_layers * shape.n_heads));
    for (size_t i = 0; i < beside.size(); ++i) {
      const RowBeside& row = beside[i];
      EXPECT_EQ(row.dense, alone[i].dense) << "the method must not reach what dense attention reads";
      EXPECT_TRUE(alone[i].read.empty());
      EXPECT_NEAR(std::accumulate(row.dense.begin(), row.dense.end(), 0.0), 1, 1e-5);
      ASSERT_EQ(row.read.size(), 12u);
      EXPECT_EQ(row.read[2].position, row.q_pos - 9);
      // The window's own softmax is dense attention's over fewer keys, and z what it weighs.
      for (const ReadKey& key : row.read)
        EXPECT_NEAR(double{key.weight} * row.mass(), double{row.dense[static_cast<size_t>(key.position)]}, 1e-5);
      EXPECT_LT(largest_difference(row.z, row.z_of_read), 1e-5);
      EXPECT_GT(largest_difference(row.z, std::vector<float>(row.z.size(), 0.0f)), 1e-4);
    }
  });
}

TEST(BesideDense, SumsTheLargest) {
  EXPECT_DOUBLE_EQ(sum_of_largest({1, 5, 2, 4}, 2), 9);
  EXPECT_DOUBLE_EQ(sum_of_largest({1, 5}, 3), 6);
}

}  // namespace beside_dense_test
}  // namespace fovea::papers
