#include "fovea/tokenizers/nfc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <utf8proc.h>

#include <cstdlib>

#include "fovea/base/random.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

// The library's own way, which takes quadratic time on runs of marks.
std::string library_nfc(const std::string& text) {
  utf8proc_uint8_t* out = nullptr;
  const auto n =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &out, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::string result(reinterpret_cast<char*>(out), n < 0 ? 0 : static_cast<size_t>(n));
  std::free(out);
  return result;
}

TEST(Nfc, EqualsTheLibraryOnEveryCharacterAmongMarks) {
  for (uint32_t c = 1; c < 0x31000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string s;
    append_utf8(s, c);
    const std::string text =
        "a" + s + s + "\xCC\xA3\xCC\x87" + s + " \xCC\x81" + s + "\xE1\x84\x92" + s + "\xE1\x86\xAB";
    const std::string expected = library_nfc(text);
    ASSERT_EQ(compose(text).text, expected) << "U+" << std::hex << c;
    ASSERT_EQ(is_nfc(text), text == expected) << "U+" << std::hex << c;
  }
}

TEST(Nfc, EqualsTheLibraryOnRandomText) {
  const std::vector<std::string> pool = {"a",
                                         "e",
                                         "\xC3\xA9",
                                         "\xCC\x81",
                                         "\xCC\xA3",
                                         "\xCC\x87",
                                         "\xCD\x85",
                                         "\xE1\x84\x92",
                                         "\xE1\x85\xA1",
                                         "\xE1\x86\xAB",
                                         "\xED\x95\x9C",
                                         "\xED\x95\x98",
                                         "\xE2\x84\xAB",
                                         "\xE0\xA4\x95\xE0\xA4\xBC",
                                         "\xE0\xA5\x98",
                                         "\xE0\xAF\x86\xE0\xAE\xBE",
                                         "\xF0\x9D\x85\x97\xF0\x9D\x85\xA5",
                                         " "};
  Rng random(2);
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (uint64_t n = random.below(12); n > 0; --n) text += pool[random.below(pool.size())];
    ASSERT_EQ(compose(text).text, library_nfc(text)) << testing::PrintToString(text);
  }
}

TEST(Nfc, SaysWhereTheTextCameFrom) {
  const ComposedText c = compose("xe\xCC\x81yz\xC3\xA9");
  EXPECT_EQ(c.text, "x\xC3\xA9yz\xC3\xA9");
  ASSERT_EQ(c.parts.size(), 3u);
  EXPECT_EQ(c.parts[1].at, 1u);
  EXPECT_EQ(c.parts[1].source, 1u);
  EXPECT_TRUE(c.parts[1].changed);
  EXPECT_EQ(c.parts[2].at, 3u);
  EXPECT_EQ(c.parts[2].source, 4u);
  EXPECT_FALSE(c.parts[2].changed);
}

TEST(Nfc, LeavesInvalidBytesAlone) {
  for (const std::string text : {"\xCC", "\xFF\xCC\x81", "a\x80\xCC\x81", "\xF0\x9F", "\xC3\xA9\xC3"}) {
    EXPECT_TRUE(is_nfc(text));
    EXPECT_EQ(compose(text).text, text);
  }
  EXPECT_EQ(compose("\xFF"
                    "e\xCC\x81\xFF")
                .text,
            "\xFF\xC3\xA9\xFF");
}

TEST(Nfc, T2_SortsTwoHundredThousandMarksInLittleTime) {
  std::string text = "a", above, below;
  for (int i = 0; i < 100'000; ++i) {
    text += "\xCC\x81\xCC\xA3";  // each pair is in the wrong order
    below += i ? "\xCC\xA3" : "";
    above += "\xCC\x81";
  }
  EXPECT_EQ(compose(text).text, "\xE1\xBA\xA1" + below + above);
}

}  // namespace
}  // namespace fovea::tokenizers
