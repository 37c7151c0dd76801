#include "fovea/tokenizers/unicode_forms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <utf8proc.h>

#include <cstdlib>

#include "fovea/base/random.h"
#include "fovea/base/testing/sanitized.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace unicode_forms_test {

// The library's own way, which takes quadratic time on runs of marks.
std::string library(UnicodeForm form, const std::string& text) {
  constexpr int kOptions[] = {UTF8PROC_COMPOSE, UTF8PROC_DECOMPOSE, UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                              UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
  utf8proc_uint8_t* out = nullptr;
  const auto n =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &out, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | kOptions[static_cast<int>(form)]));
  const std::string result(reinterpret_cast<char*>(out), n < 0 ? 0 : static_cast<size_t>(n));
  std::free(out);
  return result;
}
constexpr UnicodeForm kForms[] = {UnicodeForm::kNfc, UnicodeForm::kNfd, UnicodeForm::kNfkc, UnicodeForm::kNfkd};

TEST(UnicodeForms, EqualsTheLibraryOnEveryCharacterAmongMarks) {
  for (uint32_t c = 1; c < 0x31000; c += every(11)) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string s;
    append_utf8(s, c);
    const std::string text =
        "a" + s + s + "\xCC\xA3\xCC\x87" + s + " \xCC\x81" + s + "\xE1\x84\x92" + s + "\xE1\x86\xAB";
    for (const UnicodeForm form : kForms)
      ASSERT_EQ(normalized(form, text), library(form, text)) << static_cast<int>(form) << " of U+" << std::hex << c;
  }
}

TEST(UnicodeForms, EqualsTheLibraryOnRandomText) {
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
    for (const UnicodeForm form : kForms)
      ASSERT_EQ(normalized(form, text), library(form, text)) << testing::PrintToString(text);
  }
}

TEST(UnicodeForms, SayWhereTheTextCameFrom) {
  TextEdit c("xe\xCC\x81yz\xC3\xA9", true);
  normalize(UnicodeForm::kNfc, c);
  EXPECT_EQ(c.text(), "x\xC3\xA9yz\xC3\xA9");
  const size_t sources[] = {0, 1, 1, 4, 5, 6, 7};
  for (size_t i = 0; i < 7; ++i) EXPECT_EQ(c.source_of(i), sources[i]) << i;
}

TEST(UnicodeForms, LeavesInvalidBytesAlone) {
  for (const std::string text : {"\xCC", "\xFF\xCC\x81", "a\x80\xCC\x81", "\xF0\x9F", "\xC3\xA9\xC3"}) {
    for (const UnicodeForm form : {UnicodeForm::kNfc, UnicodeForm::kNfkc}) EXPECT_EQ(normalized(form, text), text);
  }
  EXPECT_EQ(normalized(UnicodeForm::kNfc,
                       "\xFF"
                       "e\xCC\x81\xFF"),
            "\xFF\xC3\xA9\xFF");
}

TEST(UnicodeForms, T2_SortsTwoHundredThousandMarksInLittleTime) {
  std::string text = "a", above, below;
  for (int i = 0; i < 100'000; ++i) {
    text += "\xCC\x81\xCC\xA3";  // each pair is in the wrong order
    below += i ? "\xCC\xA3" : "";
    above += "\xCC\x81";
  }
  EXPECT_EQ(normalized(UnicodeForm::kNfc, text), "\xE1\xBA\xA1" + below + above);
}

}  // namespace unicode_forms_test
}  // namespace fovea::tokenizers
