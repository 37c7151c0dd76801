#include "fovea/tokenizers/split_steps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace fovea::tokenizers {
namespace split_steps_test {

using ::testing::ElementsAre;

class Collector final : public Flow {
 public:
  explicit Collector(SplitStepPtr step) : step_(std::move(step)) {}
  std::vector<std::string> of(std::string_view text) {
    parts_.clear();
    const Frame whole;
    step_->split({text, &whole, 0, true}, *this, 1);
    return parts_;
  }
  void run(size_t, const Piece& piece) override { parts_.emplace_back(piece.text); }
  void fail(Error error) override { ADD_FAILURE() << error.message; }

 private:
  SplitStepPtr step_;
  std::vector<std::string> parts_;
};

TEST(CutBefore, CutsBeforeEachRunOfMarks) {
  Collector cut(make_cut_before("_", {}));
  EXPECT_THAT(cut.of("_a_b__c"), ElementsAre("_a", "_b", "__c"));
  EXPECT_THAT(cut.of("a"), ElementsAre("a"));
  EXPECT_THAT(cut.of("__"), ElementsAre("__"));
}

TEST(CutBefore, KeepsTogetherWhatSomeTokenJoins) {
  Collector cut(make_cut_before("_", {'b', 0xE9}));
  EXPECT_THAT(cut.of("a_b_c_d\xC3\xA9_e"), ElementsAre("a", "_b_c", "_d\xC3\xA9_e"));
  EXPECT_THAT(cut.of("\xA9_b"), ElementsAre("\xA9", "_b"));  // no character, so no token has it
}

TEST(CharacterBefore, IsReadBackwards) {
  EXPECT_EQ(character_before("ab", 1), uint32_t{'a'});
  EXPECT_EQ(character_before("x\xE2\x96\x81y", 4), 0x2581u);
  EXPECT_EQ(character_before("\xF0\x9F\x99\x82", 4), 0x1F642u);
  for (const std::string_view broken : {"\xFF", "\x82", "a\x82", "\xE2\x96", "\xC3\xA9\xA9"})
    EXPECT_EQ(character_before(broken, broken.size()), 0xFFFFFu) << broken.size();
}

}  // namespace split_steps_test
}  // namespace fovea::tokenizers
