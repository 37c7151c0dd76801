#include "fovea/base/text_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "fovea/base/file_kind.h"
#include "fovea/base/log.h"

namespace fovea {
namespace text_file_test {

using namespace std::string_literals;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class Text : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_sink([this](LogLevel, std::string_view line) { said_.emplace_back(line); });
  }
  void TearDown() override { set_log_sink(nullptr); }
  std::string of(std::string bytes, bool keep_bytes = false) {
    said_.clear();
    auto text = to_text(std::move(bytes), "f", {.keep_bytes = keep_bytes});
    return text ? *text : "refused: " + text.error().message;
  }
  std::vector<std::string> said_;
};

TEST_F(Text, Utf8IsReadInSilence) {
  for (const std::string& text : {""s, "one\r\ntwo\n"s, "caf\xC3\xA9 \xF0\x9F\x99\x82"s, "# A title\n\x1B[1mbold\f"s}) {
    EXPECT_EQ(of(text), text);
    EXPECT_THAT(said_, IsEmpty());
  }
  EXPECT_EQ(of("\xEF\xBB\xBFone"), "one");
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(Text, AByteOrderMarkDecidesTheEncoding) {
  EXPECT_EQ(of("\xFF\xFE"
               "h\0\xE9\0\x3D\xD8\x42\xDE"s),
            "h\xC3\xA9\xF0\x9F\x99\x82");
  EXPECT_THAT(said_, ElementsAre(HasSubstr("UTF-16")));
  EXPECT_EQ(of("\xFE\xFF\0h\0\xE9"s), "h\xC3\xA9");
  EXPECT_EQ(of("\xFF\xFE\0\0h\0\0\0"s), "h");
  EXPECT_THAT(said_, ElementsAre(HasSubstr("UTF-32")));
  EXPECT_EQ(of("\0\0\xFE\xFF\0\0\0h"s), "h");
  EXPECT_THAT(of("\xFF\xFE\x3D\xD8"
                 "h\0"s),
              HasSubstr("refused"));  // half a character
}

TEST_F(Text, WesternEuropeanTextInOneByteIsDecodedAndSaid) {
  EXPECT_EQ(of("Das H\xE4uschen ist gr\xFCn. Die T\xFCr ist rot.\n"),
            "Das H\xC3\xA4uschen ist gr\xC3\xBCn. Die T\xC3\xBCr ist rot.\n");
  EXPECT_THAT(said_, ElementsAre(AllOf(HasSubstr("f: "), HasSubstr("Windows-1252"))));
  EXPECT_EQ(of("\x93It\x92s 5 \x80\x94, he said \x97 \xC9t\xE9."),
            "\xE2\x80\x9CIt\xE2\x80\x99s 5 \xE2\x82\xAC\xE2\x80\x9D, he said \xE2\x80\x94 \xC3\x89t\xC3\xA9.");
}

TEST_F(Text, WhatIsOfNoCertainEncodingIsNotGuessed) {
  EXPECT_THAT(of("\xCF\xF0\xE8\xE2\xE5\xF2, \xEC\xE8\xF0! \xCA\xE0\xEA \xE4\xE5\xEB\xE0?"),  // Cyrillic
              AllOf(HasSubstr("refused"), HasSubstr("iconv")));
  EXPECT_THAT(of("caf\x8E au lait, cr\x8Fme br\x9Al\x8E"
                 "e"),
              Not(HasSubstr("\xC5\xBD")));  // Mac Roman
  EXPECT_EQ(of("ol\xC3\xA9, the caf\xC3 is cut here"), "ol\xC3\xA9, the caf\xEF\xBF\xBD is cut here");
  EXPECT_THAT(said_, ElementsAre(AllOf(HasSubstr("1 bytes"), HasSubstr("line 1, column 13"), HasSubstr("U+FFFD"))));
}

TEST_F(Text, BinaryFilesAreRefused) {
  EXPECT_THAT(of("ab\0c"s), AllOf(HasSubstr("refused: f: "), HasSubstr("binary"), HasSubstr("byte 2")));
  EXPECT_THAT(of("h\0e\0l\0l\0o\0"s), HasSubstr("iconv -f UTF-16LE"));
  std::string noise;
  for (int i = 0; i < 2000; ++i) noise += static_cast<char>(1 + i * 7919 % 255);
  EXPECT_THAT(of(noise), HasSubstr("refused"));
}

TEST_F(Text, WhoLooksAtBytesGetsThem) {
  EXPECT_EQ(of("ab\0c\xFF"s, true), "ab\0c\xFF"s);
  EXPECT_THAT(said_, ElementsAre(HasSubstr("as they are")));
  EXPECT_THAT(of("%PDF-1.4\n", true), HasSubstr("a PDF"));
}

TEST_F(Text, FormatsThatAreNoTextAreNamedWithTheWayOut) {
  const std::vector<std::pair<std::string, const char*>> kinds = {
      {"%PDF-1.4\n1 0 obj", "pdftotext FILE -"},
      {"\r\n%PDF-1.7", "a PDF"},
      {"PK\3\4....[Content_Types].xml....word/document.xml", "a Word document"},
      {"PK\3\4....[Content_Types].xml....xl/workbook.xml", "an Excel workbook"},
      {"PK\3\4..mimetypeapplication/vnd.oasis.opendocument.textPK", "an OpenDocument text"},
      {"PK\3\4..mimetypeapplication/epub+zipPK", "an EPUB book"},
      {"PK\3\4.....a.txt", "a zip archive"},
      {"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "an old Office document"},
      {"{\\rtf1\\ansi Hello}", "an RTF document"},
      {"\x89PNG\r\n\x1A\n", "a PNG image"},
      {"\xFF\xD8\xFF\xE0", "a JPEG image"},
      {"GIF89a", "a GIF image"},
      {"RIFF\0\0\0\0WEBP"s, "a WebP image"},
      {"RIFF\0\0\0\0WAVE"s, "an audio file"},
      {"\0\0\0\x18"
       "ftypisom"s,
       "a video"},
      {"\x1F\x8B\x08", "gzip -dc FILE"},
      {std::string(257, 'a') + "ustar", "a tar archive"},
      {"\x7F"
       "ELF\2",
       "an executable"},
      {"MZ\x90\0"s, "an executable"},
      {"GGUF\3\0\0\0"s, "a model (GGUF)"},
      {"\x10\0\0\0\0\0\0\0{\"a\":"s, "a model (safetensors)"},
      {"\x93NUMPY\1", "a NumPy file"},
      {"SQLite format 3\0"s, "an SQLite database"},
      {"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"},
  };
  for (const auto& [bytes, name] : kinds) {
    EXPECT_THAT(of(bytes), AllOf(HasSubstr("refused: f: "), HasSubstr(name), HasSubstr("not plain text")));
  }
  // Words that only look like the beginning of one.
  for (const char* text :
       {"BM is a company", "MZ stands for", "A file begins with %PDF-1.4 then", "ID: 3", "II and III"}) {
    EXPECT_EQ(file_kind(text), nullptr) << text;
  }
}

TEST_F(Text, HtmlIsReadAndSaid) {
  for (const char* page : {"<!DOCTYPE html>\n<p>Hi", "\n <HTML lang=en>", "<?xml version=\"1.0\"?>\n<html>"}) {
    EXPECT_EQ(of(page), page);
    EXPECT_THAT(said_, ElementsAre(AllOf(HasSubstr("HTML"), HasSubstr("lynx"))));
  }
  of("<svg>");
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(Text, ArgumentsAreDecodedAndNeverRefused) {
  EXPECT_EQ(argument_text("caf\xE9 noir", "--prompt"), "caf\xC3\xA9 noir");
  EXPECT_EQ(argument_text("\xFF", "--prompt"), "\xFF");
  EXPECT_EQ(argument_text("%PDF-", "--prompt"), "%PDF-");
  EXPECT_EQ(said_.size(), 2u);
}

}  // namespace text_file_test
}  // namespace fovea
