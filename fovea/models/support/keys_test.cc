#include "fovea/models/support/keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/formats/gguf.h"
#include "fovea/models/testing/model_recipe.h"

namespace fovea::models {
namespace keys_test {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class KeysTest : public ::testing::Test {
 protected:
  KeysTest() {
    ModelRecipe recipe;
    recipe.set("llama.rope.scaling.factor", -2.0f).set("llama.rope.scaling.type", "linear");
    recipe.set("llama.rope.scaling.long_factors", std::vector<float>{1, 2}).set("llama.nobody.knows", uint32_t{7});
    file_ = recipe.build();
    gguf_ = std::make_unique<formats::Gguf>(
        formats::Gguf::parse({reinterpret_cast<const std::byte*>(file_.data()), file_.size()}, "m.gguf").value());
  }
  std::string file_;
  std::unique_ptr<formats::Gguf> gguf_;
};

TEST_F(KeysTest, AKeyThatTheFamilyDoesNotListIsNotThere) {
  const Keys keys(*gguf_, "llama");
  EXPECT_TRUE(keys.has("rope.scaling.factor"));
  EXPECT_FALSE(keys.has("nobody.knows"));
  EXPECT_TRUE(gguf_->has("llama.nobody.knows"));
  EXPECT_EQ(keys.number_or("nobody.knows", 3, 0, 9).value(), 3);
}

TEST_F(KeysTest, ValuesOutsideTheirRangeAreRefusedByNameWithWhatIsAllowed) {
  const Keys keys(*gguf_, "llama");
  const auto factor = keys.number("rope.scaling.factor", 0.5, 100);
  ASSERT_FALSE(factor.has_value());
  EXPECT_EQ(factor.error().where, "llama.rope.scaling.factor");
  EXPECT_THAT(factor.error().message, AllOf(HasSubstr("m.gguf"), HasSubstr("is -2; 0.5 to 100 are allowed")));
  EXPECT_EQ(keys.size("block_count", 2, 9).error().code, ErrorCode::kData);
  EXPECT_EQ(keys.size("context_length", 1, 9).error().code, ErrorCode::kLimit);
  EXPECT_EQ(keys.size("context_length", 1, 16).value(), 16);
}

TEST_F(KeysTest, AListHasAsManyValuesAsAreNeeded) {
  const Keys keys(*gguf_, "llama");
  EXPECT_THAT(keys.numbers("rope.scaling.long_factors", 2).value(), ElementsAre(1, 2));
  EXPECT_THAT(keys.numbers("rope.scaling.long_factors", 3).error().message, HasSubstr("has 2 values; 3 are needed"));
  EXPECT_FALSE(keys.flag_or("rope.scaling.type", true).has_value());
  EXPECT_EQ(keys.text_or("rope.scaling.type", "none").value(), "linear");
}

}  // namespace keys_test
}  // namespace fovea::models
