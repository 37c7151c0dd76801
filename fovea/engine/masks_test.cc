#include "fovea/engine/masks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "fovea/base/file.h"
#include "fovea/engine/lora.h"
#include "fovea/engine/testing/golden.h"
#include "fovea/formats/testing/safetensors_bytes.h"

namespace fovea::engine {
namespace masks_test {

using formats::SafetensorsFile;
using ::testing::HasSubstr;

constexpr const char* kOut = "model.layers.0.self_attn.o_proj.weight";

class Masks : public ::testing::Test {
 protected:
  Status read(const std::string& bytes) {
    EXPECT_TRUE(write_file_atomic(path_, bytes).has_value());
    adapters_ = {};
    return add_masks(*model_, path_, adapters_);
  }
  std::string error(const std::string& bytes) {
    const Status status = read(bytes);
    EXPECT_FALSE(status.has_value());
    if (status) return "";
    EXPECT_THAT(status.error().message, HasSubstr("some.safetensors"));
    return status.error().message;
  }
  std::shared_ptr<const Model> model_ = load_model(test_data("families/llama"));
  const std::string path_ = ::testing::TempDir() + "some.safetensors";
  tensor::Adapters adapters_;
};

// With ones nothing changes; with others than those the hash of what was read is another too.
TEST_F(Masks, AreReadForTheWeightsOfTheirNames) {
  const tensor::Weight& w = **model_->weight(kOut);
  const int64_t rows = w.rows(), cols = w.cols();
  ASSERT_TRUE(read(SafetensorsFile().add(kOut, {rows, cols}).build()).has_value());
  ASSERT_NE(adapters_.find(w), nullptr);
  EXPECT_EQ(adapters_.find(w)->mask.values.shape(), tensor::Shape({rows, cols}));
  ASSERT_TRUE(read(SafetensorsFile().add("blk.0.attn_output.weight", {1, 2}).build()).has_value());
  EXPECT_EQ(adapters_.find(w)->mask.values.dim(1), 2);
  const std::vector<int32_t> ids = {3, 1, 4, 1, 5};
  const auto logits = [&](const std::string& masks) {
    const auto loaded = load_adapters(*model_, {}, masks);
    EXPECT_TRUE(loaded.has_value()) << loaded.error().message;
    const auto session = make_session(model_, {.numerics = kernels::Numerics::kExact, .adapters = *loaded});
    return std::pair{prefill(*session, session->begin(), ids), *loaded ? (*loaded)->sha256() : ""};
  };
  const auto ones = logits(path_);
  EXPECT_EQ(ones.first, logits("").first);
  const float half[2] = {1, 0};
  ASSERT_TRUE(read(SafetensorsFile()
                       .add(kOut, {1, 2}, "F32", std::string(reinterpret_cast<const char*>(half), sizeof(half)))
                       .build())
                  .has_value());
  const auto less = logits(path_);
  EXPECT_NE(less.first, ones.first);
  EXPECT_NE(less.second, ones.second);
}

TEST_F(Masks, OfAnotherModelAreRefusedByName) {
  EXPECT_THAT(error("x"), HasSubstr("bytes"));
  EXPECT_THAT(error(SafetensorsFile().add("blk.9.attn_q.weight", {2, 2}).build()),
              HasSubstr("tensor \"blk.9.attn_q.weight\" masks a weight that"));
  EXPECT_THAT(error(SafetensorsFile().add(kOut, {2, 2}).build()), HasSubstr("is [2, 2] of F32, and masks a weight"));
  EXPECT_THAT(error(SafetensorsFile().add(kOut, {1, 7}).build()), HasSubstr("is [1, 7] of F32"));
  EXPECT_THAT(error(SafetensorsFile().add("model.norm.weight", {1, 1}).build()), HasSubstr("masks a weight [1, "));
  const float inf[2] = {1, std::numeric_limits<float>::infinity()};
  EXPECT_THAT(error(SafetensorsFile()
                        .add(kOut, {1, 2}, "F32", std::string(reinterpret_cast<const char*>(inf), sizeof(inf)))
                        .build()),
              HasSubstr("not numbers"));
  EXPECT_THAT(error(SafetensorsFile().add(kOut, {1, 2}).add("blk.0.attn_output.weight", {1, 2}).build()),
              HasSubstr("it has a mask already"));
}

}  // namespace masks_test
}  // namespace fovea::engine
