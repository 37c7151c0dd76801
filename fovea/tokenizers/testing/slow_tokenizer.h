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
#include "fovea/tokenizers/regex.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::tokenizers {

// The words of `text`: the matches of each expression, and what is between them, of the words of the one before.
Result<std::vector<std::string_view>> slow_words(const std::vector<Regex>& rules, std::string_view text);
Result<std::vector<Regex>> slow_rules(const std::vector<std::string_view>& expressions);

class SlowTokenizer {
 public:
  // Precondition: Tokenizer::create accepts the vocabulary.
  static Result<SlowTokenizer> create(const Vocabulary& vocabulary);
  // As Tokenizer::encode without bos and eos. Precondition: no user-defined token occurs in `text`.
  Result<std::vector<int32_t>> encode(std::string_view text) const;

 private:
  void encode_word(std::string_view word, std::vector<int32_t>& ids) const;

  std::vector<Regex> rules_;
  const PreTokenizer* pre_ = nullptr;
  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_map<std::string, size_t> ranks_;  // by "left right"
};

}  // namespace fovea::tokenizers
