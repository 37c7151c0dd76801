// A tokenizer in the words of the other kind of file: GGUF's lists of what a folder has, tokenizer.json of GGUF's
// lists. What comes out is tried beside what it was made of, on the text of every token and a mixed one: where they
// give other ids, GGUF (or tokenizer.json as it is written here) cannot say this tokenizer, and it is refused.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tokenizers/vocabulary.h"

namespace fovea::tokenizers {

struct GgufLists {
  std::string kind, pre, charsmap;
  std::vector<std::string> tokens, merges;
  std::vector<TokenType> types;
  std::vector<float> scores;  // empty: the kind has none
  bool add_bos = false, add_eos = false, add_space_prefix = true, remove_extra_whitespaces = false;
  int32_t bos = -1, eos = -1, unknown = -1, padding = -1, separator = -1;
  Vocabulary view(const std::string& name) const;  // into these
};
// `n_tokens`: of the model; ids without a token get unused ones. kUnsupported; kData: more tokens than that.
Result<GgufLists> gguf_lists(const Vocabulary& files, size_t n_tokens);

// The content of tokenizer.json. kUnsupported.
Result<std::string> tokenizer_json_of(const Vocabulary& gguf);

}  // namespace fovea::tokenizers
