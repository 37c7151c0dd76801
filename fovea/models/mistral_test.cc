#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace mistral_test {

TEST(Mistral, LogitsAreThoseOfTransformers) { TinyModel("mistral").expect_golden_logits(); }

// Layer after layer a row sees 11 rows further back.
TEST(Mistral, ARowSeesNoFurtherThanTheWindowsOfAllLayers) {
  TinyModel model("mistral");
  tensor::Exec exec{.arena = nullptr, .numerics = tensor::Numerics::kExact};
  tensor::ExecScope scope(exec);
  std::vector<int32_t> other = model.ids();
  other[0] = other[0] == 5 ? 6 : 5;
  const tensor::Tensor a = model.logits(model.ids()), b = model.logits(other);
  const int64_t reach = model.shape().n_layers * (model.shape().site(0).window - 1), vocab = a.dim(1);
  const auto same = [&](int64_t row) {
    return std::equal(a.data() + row * vocab, a.data() + (row + 1) * vocab, b.data() + row * vocab);
  };
  EXPECT_FALSE(same(reach));
  EXPECT_TRUE(same(reach + 1));
}

}  // namespace mistral_test
}  // namespace fovea::models
