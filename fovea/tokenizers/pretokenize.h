// How text is cut into words before pairs of bytes are merged; no merge crosses a cut. The rules
// are those published with the models, as regular expressions; here they are hand-written scanners
// (about 15 times faster), and the expressions, run by PCRE2, are their slow twin.
// Letters and numbers are those of the Unicode version of libutf8proc; a byte that is not UTF-8
// counts as a symbol.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::tokenizers {

struct PreTokenizer {
  std::string_view name;                                    // as in tokenizer.ggml.pre
  const char* (*word_end)(const char* p, const char* end);  // of the word at p; precondition: p < end
  const char* expression;                                   // the same rule; matches follow each other without a gap
  bool whole_words_first;  // a word that is a token is taken whole, whatever the merges say
  bool nfc;                // text is composed (Unicode NFC) before it is cut
  bool adds_bos;           // where the file does not say
};
// nullptr: unknown.
const PreTokenizer* find_pre_tokenizer(std::string_view name);
std::span<const PreTokenizer> pre_tokenizers();

// The slow twin: the same words by PCRE2.
class RegexSplitter {
 public:
  static Result<RegexSplitter> create(const char* expression);
  // Ends of the words of `text`. kLimit if a match takes more than its budget of steps or memory.
  Result<std::vector<size_t>> split(std::string_view text) const;

 private:
  RegexSplitter() = default;
  std::shared_ptr<void> code_;
};

}  // namespace fovea::tokenizers
