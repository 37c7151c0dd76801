#include "fovea/engine/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // mkdtemp

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"
#include "fovea/engine/session.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/quantized_form.h"
#include "fovea/tensor/weight.h"

namespace fovea::engine {
namespace model_test {

std::shared_ptr<const Model> tiny(const ModelOptions& options) {
  auto model = Model::load(source_dir() + "/tests/data/tiny-llama.gguf", options);
  EXPECT_TRUE(model.has_value()) << model.error().message;
  return std::move(model).value();
}

ModelOptions repacked(uint64_t bytes, bool late) {
  ModelOptions options;
  options.repack_bytes = bytes, options.repack_late = late;
  return options;
}

// The logits of a prompt of n tokens, then of three tokens more.
std::vector<float> answer(std::shared_ptr<const Model> model, int n) {
  const auto session = Session::create(std::move(model), {}).value();
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 31 % 290);
  const SequenceId sequence = session->begin();
  std::vector<float> out = session->prefill(sequence, ids).value();
  for (int i = 0; i < 3; ++i) {
    const Session::Step step{sequence, 7 + i};
    const auto logits = session->decode({&step, 1}).value().values();
    out.insert(out.end(), logits.begin(), logits.end());
  }
  return out;
}

TEST(Model, AnyBudgetForRepackedWeightsGivesTheSameBits) {
  for (const int n : {3, 200}) {
    const auto all = tiny({});
    const uint64_t whole = all->packed_bytes();
    ASSERT_GT(whole, 0u);
    const std::vector<float> expected = answer(all, n);
    for (const uint64_t budget : {uint64_t{0}, whole / 2, whole}) {
      for (const bool late : {false, true}) {
        const auto model = tiny(repacked(budget, late));
        EXPECT_LE(model->packed_bytes(), budget);
        EXPECT_EQ(model->packed_bytes() > 0, budget > 0);
        EXPECT_EQ(answer(model, n), expected) << budget << " bytes, late: " << late;
      }
    }
  }
}

TEST(Model, FloatsAreRepackedForExactArithmeticAndChangeNoBit) {
  ModelOptions options;
  options.repack_for = kernels::Numerics::kExact;
  EXPECT_LT(tiny(options)->packed_bytes(), tiny({})->packed_bytes());
  const std::string folder = source_dir() + "/tests/data/encoders/bert";
  const auto packed = Model::load(folder, options).value(), plain = Model::load(folder, repacked(0, false)).value();
  EXPECT_GT(packed->packed_bytes(), 0u);
  const std::vector<int32_t> ids = {5, 9, 7, 3, 11, 6, 8, 4, 12, 5, 9, 7, 3, 11};
  std::vector<std::vector<float>> rows;
  for (const auto& model : {packed, plain}) {
    const auto session = Session::create(model, {.numerics = tensor::Numerics::kExact}).value();
    const Session::Feed feed{session->begin(), ids};
    const auto values = session->hidden({&feed, 1}).value().values();
    rows.emplace_back(values.begin(), values.end());
    EXPECT_EQ(session->cache().bytes(), 0u) << "a layer of an encoder keeps no key for later";
  }
  EXPECT_EQ(rows[0], rows[1]);
}

TEST(Model, OneOfFloatsMakesNoFormsForProducts) {
  using enum kernels::WeightForm;
  EXPECT_EQ(tiny({})->form(), kInt8);
  EXPECT_EQ(Model::load(source_dir() + "/tests/data/encoders/bert").value()->form(), kFloats);
  for (const auto form : {kFloats, kInt8, kInt16}) {
    tensor::Exec exec{.form = form};
    const tensor::ExecScope scope(exec);
    EXPECT_EQ(tensor::wants_form(tensor::Next::kProducts, 64), form != kFloats);
    EXPECT_EQ(tensor::wants_form(tensor::Next::kProducts, 96), form == kInt8);
  }
}

TEST(Model, WeightsToBeRepackedLateTakeNothingUntilUsedAgain) {
  const size_t before = tensor::packed_weight_bytes();
  const auto model = tiny(repacked(UINT64_MAX, true));
  EXPECT_EQ(tensor::packed_weight_bytes(), before);
  const auto session = Session::create(model, {}).value();
  const SequenceId sequence = session->begin();
  ASSERT_TRUE(session->prefill(sequence, std::vector<int32_t>{1, 2, 3}).has_value());
  EXPECT_EQ(tensor::packed_weight_bytes(), before);
  const Session::Step step{sequence, 5};
  ASSERT_TRUE(session->decode({&step, 1}).has_value());
  EXPECT_EQ(tensor::packed_weight_bytes(), before + model->packed_bytes());
}

TEST(Model, ThatWasReplacedSinceItWasLoadedHasNoHash) {
  const std::string bytes = read_file(source_dir() + "/tests/data/tiny-llama.gguf").value();
  std::string folder = ::testing::TempDir() + "fovea-model-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/model.gguf";
  ASSERT_TRUE(write_file_atomic(path, bytes).has_value());
  const auto model = Model::load(path);
  ASSERT_TRUE(model.has_value()) << model.error().message;
  EXPECT_EQ((*model)->sha256().value(), sha256_of(std::as_bytes(std::span(bytes))));
  ASSERT_TRUE(write_file_atomic(path, bytes + " ").has_value());
  const auto changed = (*model)->sha256();
  std::filesystem::remove_all(folder);
  ASSERT_FALSE(changed.has_value());
  EXPECT_EQ(changed.error().code, ErrorCode::kIo);
  EXPECT_THAT(changed.error().message, ::testing::HasSubstr("model"));
}

TEST(Model, OneThatIsMadeInMemoryHasTheNameOfItsFiles) {
  for (const char* file : {"/tests/data/tiny-llama.gguf", "/tests/data/tiny-llama-hf"}) {
    ModelOptions options;
    options.quantize = kernels::DType::kQ8_0;
    const std::string path = source_dir() + file;
    const auto model = Model::load(path, options);
    ASSERT_TRUE(model.has_value()) << model.error().message;
    EXPECT_EQ((*model)->source().name(), quote(path, 4096));
    EXPECT_EQ((*model)->source().get_u64("none").error().message.find("/proc"), std::string::npos);
  }
}

}  // namespace model_test
}  // namespace fovea::engine
