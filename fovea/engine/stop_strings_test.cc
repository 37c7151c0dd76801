#include "fovea/engine/stop_strings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fovea::engine {
namespace stop_strings_test {

using ::testing::HasSubstr;

// What comes out when the text comes in pieces of n bytes.
std::string cut(const std::string& text, const std::vector<std::string>& stops, size_t n) {
  StopStrings stop(stops);
  std::string out;
  for (size_t i = 0; i < text.size(); i += n) out += stop.push(text.substr(i, n));
  return out + stop.finish();
}

TEST(StopStrings, EndTheTextBeforeTheFirstHoweverItIsCut) {
  for (size_t n = 1; n < 12; ++n) {
    EXPECT_EQ(cut("one two STOP three", {"STOP"}, n), "one two ") << n;
    EXPECT_EQ(cut("aab aaab", {"aaab"}, n), "aab ") << n;  // a false start inside the true one
    EXPECT_EQ(cut("x\n\nUser: y", {"\nUser:", "User"}, n).substr(0, 2), "x\n") << n;
    EXPECT_EQ(cut("one two STO", {"STOP"}, n), "one two STO") << n;
    EXPECT_EQ(cut("plain", {}, n), "plain") << n;
  }
}

TEST(StopStrings, HoldBackOnlyWhatMayBeginOne) {
  StopStrings stop({"<end>"});
  EXPECT_EQ(stop.push("a <e"), "a ");
  EXPECT_EQ(stop.push("x <"), "<ex ");
  EXPECT_EQ(stop.push("end"), "");
  EXPECT_FALSE(stop.found());
  EXPECT_EQ(stop.push("> b"), "");
  EXPECT_TRUE(stop.found());
  EXPECT_EQ(stop.push("more"), "");
  EXPECT_EQ(stop.finish(), "");
}

TEST(StopStrings, NeverSplitACharacter) {
  StopStrings stop({"\xA9!"});  // begins with the second byte of an e with an accent
  EXPECT_EQ(stop.push("caf\xC3\xA9"), "caf");
  EXPECT_EQ(stop.finish(), "\xC3\xA9");
}

TEST(StopStrings, H7_EmptyLongOrTooManyAreRefused) {
  EXPECT_TRUE(check_stop_strings({"a", std::string(256, 'x')}).has_value());
  EXPECT_THAT(check_stop_strings({""}).error().message, HasSubstr("1 to 256"));
  EXPECT_THAT(check_stop_strings({std::string(257, 'x')}).error().message, HasSubstr("257"));
  EXPECT_THAT(check_stop_strings(std::vector<std::string>(17, "x")).error().message, HasSubstr("at most 16"));
}

}  // namespace stop_strings_test
}  // namespace fovea::engine
