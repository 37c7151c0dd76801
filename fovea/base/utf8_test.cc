#include "fovea/base/utf8.h"

#include <gtest/gtest.h>

namespace fovea {
namespace utf8_test {

constexpr char kBad[] = "\xEF\xBF\xBD";

std::string bad(int n) {
  std::string out;
  while (n-- > 0) out += kBad;
  return out;
}

TEST(Utf8, EveryCharacterIsReadBack) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string s;
    append_utf8(s, c);
    const CodePoint read = code_point_at(s.data(), s.data() + s.size());
    ASSERT_EQ(read.value, c);
    ASSERT_EQ(read.bytes, s.size());
    for (size_t n = 1; n < s.size(); ++n) ASSERT_EQ(incomplete_tail(s.substr(0, n)), n);
    ASSERT_EQ(incomplete_tail(s), 0u);
  }
}

TEST(Utf8, T1_InvalidBytesBecomeOneMarkForEachBrokenBeginning) {
  EXPECT_EQ(replace_invalid_utf8("a\x80z"), "a" + bad(1) + "z");
  EXPECT_EQ(replace_invalid_utf8("\xC0\xAF"), bad(2));
  EXPECT_EQ(replace_invalid_utf8("\xE0\x80\xBF"), bad(3));
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), bad(3));
  EXPECT_EQ(replace_invalid_utf8("\xF4\x90\x80\x80"), bad(4));
  EXPECT_EQ(replace_invalid_utf8("\xE4\xB8"
                                 "a"),
            bad(1) + "a");
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x99"
                                 "a"),
            bad(1) + "a");
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F"
                                 "a"),
            bad(1) + "a");
  EXPECT_EQ(replace_invalid_utf8("\xF1\x80\x80\xE1\x80\xC2"), bad(3));
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x99\x82"), "\xF0\x9F\x99\x82");
  EXPECT_FALSE(is_utf8("\xED\xBF\xBF"));
  EXPECT_TRUE(is_utf8(std::string("\0\xC3\xA9", 3)));
}

TEST(Utf8, OnlyWhatCanStillBecomeACharacterIsIncomplete) {
  EXPECT_EQ(incomplete_tail(""), 0u);
  EXPECT_EQ(incomplete_tail("a\xE0\x80"), 0u);
  EXPECT_EQ(incomplete_tail("a\xED\xA0"), 0u);
  EXPECT_EQ(incomplete_tail("a\xF4\x90"), 0u);
  EXPECT_EQ(incomplete_tail("a\xC0"), 0u);
  EXPECT_EQ(incomplete_tail("\x80\x80\x80"), 0u);
  EXPECT_EQ(incomplete_tail("\xF0\xF0\x9F"), 2u);
}

}  // namespace utf8_test
}  // namespace fovea
