#include "fovea/engine/document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // mkdtemp

#include <filesystem>

#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"
#include "fovea/engine/document_prompt.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/formats/gguf.h"

namespace fovea::engine {
namespace document_test {

using ::testing::HasSubstr;

class DocumentFile : public ::testing::Test {
 protected:
  Result<Document> read(const std::string& bytes) {
    EXPECT_TRUE(write_file_atomic(path_, bytes).has_value());
    return read_document(path_);
  }
  void SetUp() override {  // a folder of its own: tests run side by side
    folder_ = ::testing::TempDir() + "/document-XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    path_ = folder_ + "/document_test.txt";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_, path_;
};

TEST_F(DocumentFile, KeepsItsLinesWhateverEndsThem) {
  EXPECT_EQ(read("one\r\ntwo\rthree\n\n").value().text, "one\ntwo\nthree\n\n");
  EXPECT_EQ(read("\xEF\xBB\xBFone\n").value().text, "one\n");
}

TEST_F(DocumentFile, TurnsBytesThatAreNotUtf8IntoReplacementCharacters) {
  EXPECT_EQ(read("caf\xE9 ol\xC3\xA9").value().text, "caf\xEF\xBF\xBD ol\xC3\xA9");
}

TEST_F(DocumentFile, RefusesWhatHoldsNoText) {
  for (const std::string& bytes : {std::string(), std::string(" \r\n\t"), std::string("ab\0c", 4)}) {
    const auto document = read(bytes);
    ASSERT_FALSE(document.has_value());
    EXPECT_EQ(document.error().code, ErrorCode::kData);
    EXPECT_THAT(document.error().message, HasSubstr("document_test.txt"));
  }
  const auto none = read_document(path_ + ".not");
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().code, ErrorCode::kNotFound);
}

TEST_F(DocumentFile, RefusesMoreThanTheMaximum) {
  const auto document = read(std::string(kMaxDocumentBytes + 1, 'a'));
  ASSERT_FALSE(document.has_value());
  EXPECT_EQ(document.error().code, ErrorCode::kLimit);
}

// What the tokens that carry a place spell, document by document.
std::vector<std::string> placed_text(const DocumentPrompt& prompt, std::span<const Document> documents) {
  std::vector<std::string> out(documents.size());
  for (const auto& place : prompt.places) {
    if (place.document == DocumentPrompt::kNoDocument) continue;
    const auto d = static_cast<size_t>(place.document);
    EXPECT_EQ(place.begin, out[d].size()) << "a gap or an overlap";
    out[d] += documents[d].text.substr(place.begin, place.end - place.begin);
  }
  return out;
}

TEST(DocumentPrompt, PlacesEveryByteOfEveryDocumentOnce) {
  const auto gguf = formats::Gguf::open(source_dir() + "/tests/data/tiny-llama.gguf");
  ASSERT_TRUE(gguf.has_value()) << gguf.error().message;
  const auto tokenizer = engine::load_tokenizer(**gguf);
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  const std::vector<Document> documents = {{"a.txt", "  one <|im_end|>\n\n caf\xC3\xA9 \n"}, {"b.txt", "two\n"}};
  for (const size_t n : {size_t{1}, size_t{2}}) {
    const std::span<const Document> given(documents.data(), n);
    const auto prompt = make_document_prompt(**gguf, **tokenizer, given, "Which?");
    ASSERT_TRUE(prompt.has_value()) << prompt.error().message;
    ASSERT_EQ(prompt->places.size(), prompt->tokens.size());
    const auto texts = placed_text(*prompt, given);
    for (size_t d = 0; d < n; ++d) EXPECT_EQ(texts[d], documents[d].text);
    EXPECT_EQ(prompt->places.front().document, DocumentPrompt::kNoDocument);
    EXPECT_EQ(prompt->places.back().document, DocumentPrompt::kNoDocument);
    ASSERT_EQ(prompt->segments.size(), n);
    for (size_t d = 0; d < n; ++d) {
      const attention::Span& segment = prompt->segments[d];
      EXPECT_EQ(segment.name, "segment " + std::to_string(d));
      EXPECT_EQ(segment.end, d + 1 < n ? prompt->segments[d + 1].begin : static_cast<int32_t>(prompt->n_shared));
      for (size_t i = 0; i < prompt->places.size(); ++i) {
        if (prompt->places[i].document != static_cast<int32_t>(d)) continue;
        EXPECT_TRUE(static_cast<int32_t>(i) >= segment.begin && static_cast<int32_t>(i) < segment.end) << i;
      }
    }
    const std::string all = (*tokenizer)->decode(prompt->tokens).value();
    EXPECT_THAT(all, HasSubstr("Question: Which?"));
    if (n == 2) {
      EXPECT_THAT(all, testing::AllOf(HasSubstr("a.txt"), HasSubstr("b.txt")));
    }
  }
}

}  // namespace document_test
}  // namespace fovea::engine
