#include "fovea/base/bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fovea {
namespace bytes_test {

using ::testing::HasSubstr;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(ByteReader, ReadsLittleEndianNumbersInOrder) {
  ByteReader in(bytes_of(std::string_view("\x01\x02\x00\x00\x00\x07", 6)), "f");
  EXPECT_EQ(in.read<uint8_t>("a").value(), 1);
  EXPECT_EQ(in.read<uint32_t>("b").value(), 2u);
  EXPECT_EQ(in.offset(), 5u);
  EXPECT_EQ(in.remaining(), 1u);
}

TEST(ByteReader, NamesFileFieldAndOffsetWhenBytesRunOut) {
  ByteReader in(bytes_of("abc"), "model.gguf");
  const auto value = in.read<uint32_t>("the version");
  ASSERT_FALSE(value.has_value());
  EXPECT_EQ(value.error().code, ErrorCode::kData);
  EXPECT_THAT(value.error().message, HasSubstr("model.gguf"));
  EXPECT_THAT(value.error().message, HasSubstr("the version"));
  EXPECT_THAT(value.error().message, HasSubstr("offset 0"));
}

TEST(ByteReader, RefusesALengthThatWouldWrap) {
  ByteReader in(bytes_of("abc"), "f");
  ASSERT_TRUE(in.read<uint8_t>("a").has_value());
  EXPECT_FALSE(in.read_bytes(UINT64_MAX, "b").has_value());
  EXPECT_EQ(in.read_chars(2, "c").value(), "bc");
  EXPECT_FALSE(in.seek(4, "d").has_value());
  EXPECT_TRUE(in.seek(3, "e").has_value());
}

TEST(Quoted, EscapesControlsQuotesAndInvalidUtf8) {
  EXPECT_EQ(quote("a\n\x1b[31m\"\\"), "\"a\\x0A\\x1B[31m\\\"\\\\\"");
  EXPECT_EQ(quote("\xFF\xC0\x80"), "\"\\xFF\\xC0\\x80\"");
  EXPECT_EQ(quote("\xED\xA0\x80"), "\"\\xED\\xA0\\x80\"");
}

TEST(Quoted, KeepsValidUtf8ButNotTextReorderingMarks) {
  EXPECT_EQ(quote("h\xC3\xA9\xF0\x9F\x98\x80"), "\"h\xC3\xA9\xF0\x9F\x98\x80\"");
  EXPECT_EQ(quote("\xE2\x80\xAE"), "\"\\xE2\\x80\\xAE\"");
}

TEST(Quoted, CutsLongTextBetweenCharacters) {
  EXPECT_EQ(quote("abcdef", 3), "\"abc\"...");
  EXPECT_EQ(quote("ab\xC3\xA9", 3), "\"ab\"...");
  EXPECT_EQ(quote("abc", 3), "\"abc\"");
}

TEST(EscapedHtml, LeavesNothingThatAPageWouldRead) {
  EXPECT_EQ(escaped_html("a<b> & \"c\" 'd'"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
  EXPECT_EQ(escaped_html("x\ny\x1b"), escaped_text("x\ny\x1b"));
}

}  // namespace bytes_test
}  // namespace fovea
