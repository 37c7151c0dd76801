#include "papers/support/text_loss.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/base/testing/paths.h"

namespace fovea::papers {
namespace text_loss_test {

void on_tiny_model(const std::function<void(Run&)>& check) {
  const auto model = engine::Model::load(source_dir() + "/tests/data/tiny-llama.gguf");
  ASSERT_TRUE(model.has_value()) << model.error().message;
  const Paper paper{.slug = "a-paper"};
  const RunOptions options{.numerics = kernels::Numerics::kExact};
  Report report;
  Run run(paper, *model, options, report);
  check(run);
}

TEST(TextLoss, IsTheSameHoweverItIsFedAndSeesWhatStandsBefore) {
  on_tiny_model([](papers::Run& run) {
    const auto tokens = text_tokens(run, 200);
    ASSERT_TRUE(tokens.has_value()) << tokens.error().message;
    ASSERT_EQ(tokens->size(), 200u);
    const auto loss = [&](const TextRun& of) {
      const auto out = text_loss(run, *tokens, of);
      EXPECT_TRUE(out.has_value()) << out.error().message;
      return out ? *out : TextLoss();
    };
    const TextLoss steps = loss({.n_scored = 20}), prompt = loss({.n_scored = 20, .decoded = false});
    EXPECT_NEAR(steps.nll, prompt.nll, 1e-5);
    EXPECT_GT(steps.ms, 0);
    EXPECT_NE(loss({.n_scored = 20, .context = 60}).nll, steps.nll);
    EXPECT_NE(loss({.attention = "streaming-llm:window=8", .n_scored = 20}).nll, steps.nll);
  });
}
TEST(TextLoss, ReadsPastTheTrainedLengthOnlyWhereItIsSaid) {
  on_tiny_model([](papers::Run& run) {
    const auto tokens = text_tokens(run, run.model()->shape().n_ctx + 40);
    ASSERT_TRUE(tokens.has_value()) << tokens.error().message;
    EXPECT_FALSE(text_loss(run, *tokens, {.n_scored = 8}).has_value());
    EXPECT_TRUE(text_loss(run, *tokens, {.n_scored = 8, .beyond = true}).has_value());
  });
}

}  // namespace text_loss_test
}  // namespace fovea::papers
