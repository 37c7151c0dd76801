// The slow twin of Tokenizer::encode, straight from the definitions: words by regular expression,
// tokens as strings, pairs looked for again after every merge. For tests, fuzzing and benchmarks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tokenizers/pretokenize.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::tokenizers {

class SlowTokenizer {
 public:
  // Precondition: Tokenizer::create accepts the vocabulary.
  static Result<SlowTokenizer> create(const Vocabulary& vocabulary);
  // As Tokenizer::encode without bos and eos. Precondition: no user-defined token occurs in `text`.
  Result<std::vector<int32_t>> encode(std::string_view text) const;

 private:
  explicit SlowTokenizer(RegexSplitter splitter) : splitter_(std::move(splitter)) {}
  void encode_word(std::string_view word, std::vector<int32_t>& ids) const;

  RegexSplitter splitter_;
  const PreTokenizer* pre_ = nullptr;
  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_map<std::string, size_t> ranks_;  // by "left right"
};

}  // namespace fovea::tokenizers
