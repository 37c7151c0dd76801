#include "fovea/engine/soft_prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "fovea/base/file.h"
#include "fovea/engine/testing/golden.h"
#include "fovea/formats/testing/safetensors_bytes.h"
#include "fovea/tensor/exec.h"

namespace fovea::engine {
namespace soft_prompt_test {

using formats::SafetensorsFile;
using ::testing::HasSubstr;

// What a model makes of these tokens at the first positions.
Tensor embedded(const Model& model, std::span<const int32_t> ids) {
  attention::Batch batch;
  batch.add(ids, 0, 0);
  attention::Hooks none(model.family().hooks());
  tensor::Exec exec{.numerics = kernels::Numerics::kExact};
  const tensor::ExecScope scope(exec);
  const Tensor x = model.family().embed(batch, none);
  return Tensor::from(x.shape(), x.values());
}

class SoftPromptOf : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, SoftPromptOf, ::testing::ValuesIn(test_folders("families")),
                         [](const auto& test) { return test_name(test.param); });

TEST_P(SoftPromptOf, RowsThatTokensHaveGiveTheBitsOfThoseTokens) {
  const auto model = load_model(test_data("families/" + GetParam()));
  const std::vector<int32_t> ids = {3, 1, 4, 1, 5, 9, 2, 6};
  const size_t n = 3;
  for (const int chunk : {2, 512}) {
    const auto session = make_session(model, {.numerics = kernels::Numerics::kExact, .chunk = chunk});
    const Rows whole = prefill(*session, session->begin(), ids);
    const SequenceId sequence = session->begin();
    ASSERT_TRUE(feed_soft_prompt(*session, sequence, embedded(*model, std::span(ids).first(n))).has_value());
    EXPECT_EQ(session->length(sequence), 3);
    const Rows behind = prefill(*session, sequence, std::span(ids).subspan(n));
    EXPECT_EQ(behind, Rows(whole.begin() + static_cast<ptrdiff_t>(n), whole.end()));
    const SequenceId other = session->begin();
    ASSERT_TRUE(feed_soft_prompt(*session, other, embedded(*model, std::vector<int32_t>{3, 1, 5})).has_value());
    EXPECT_NE(prefill(*session, other, std::span(ids).subspan(n)), behind);
  }
}

TEST(SoftPrompt, IsReadAsItWasWritten) {
  const auto model = load_model(test_data("families/llama"));
  const Tensor rows = embedded(*model, std::vector<int32_t>{3, 1, 4});
  const std::string path = ::testing::TempDir() + "prompt.safetensors";
  ASSERT_TRUE(write_soft_prompt(path, rows, {{"format", "pt"}}).has_value());
  const auto read = read_soft_prompt(path, model->shape());
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->shape(), rows.shape());
  EXPECT_TRUE(std::equal(rows.values().begin(), rows.values().end(), read->values().begin()));
}

TEST(SoftPrompt, AFileThatIsNoneIsRefusedByName) {
  const attention::ModelShape model{.n_layers = 1, .d_model = 2, .n_ctx = 4};
  const std::string path = ::testing::TempDir() + "bad-prompt.safetensors";
  const auto error = [&](const std::string& bytes) {
    EXPECT_TRUE(write_file_atomic(path, bytes).has_value());
    const auto read = read_soft_prompt(path, model);
    EXPECT_FALSE(read.has_value());
    if (read) return std::string();
    EXPECT_THAT(read.error().message, HasSubstr("bad-prompt.safetensors"));
    return read.error().message;
  };
  EXPECT_THAT(error("x"), HasSubstr("bytes"));
  EXPECT_THAT(error(SafetensorsFile().add("rows", {2, 2}).build()), HasSubstr("it has no prompt_embeddings"));
  EXPECT_THAT(error(SafetensorsFile().add("prompt_embeddings", {2, 3}).build()),
              HasSubstr("prompt_embeddings is [2, 3] of F32; for this model it is 1 to 3 rows of 2 numbers"));
  EXPECT_THAT(error(SafetensorsFile().add("prompt_embeddings", {4, 2}).build()), HasSubstr("is [4, 2]"));
  EXPECT_THAT(error(SafetensorsFile().add("prompt_embeddings", {2}).build()), HasSubstr("is [2]"));
  const float nan[2] = {1, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_THAT(error(SafetensorsFile()
                        .add("prompt_embeddings", {1, 2}, "F32", std::string(reinterpret_cast<const char*>(nan), 8))
                        .build()),
              HasSubstr("not numbers"));
  EXPECT_FALSE(read_soft_prompt(path + ".none", model).has_value());
}

}  // namespace soft_prompt_test
}  // namespace fovea::engine
