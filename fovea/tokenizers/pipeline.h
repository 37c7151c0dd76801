// What a tokenizer is made of, whatever file says so: a text is searched for special tokens, normalised, cut into words
// and given to a model; a template adds tokens around; a decoder joins tokens to text again.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tokenizers/decoder.h"
#include "fovea/tokenizers/models/model.h"
#include "fovea/tokenizers/normalizers.h"
#include "fovea/tokenizers/special_tokens.h"
#include "fovea/tokenizers/split_steps.h"
#include "fovea/tokenizers/vocabulary.h"

namespace fovea::tokenizers {

struct Pipeline {
  std::vector<std::string> spellings;  // by id; empty: no token has the id
  std::vector<TokenType> types;        // as many
  SpecialTokens special;               // looked for in the text as it is
  SpecialTokens special_after;         // in what normalising has left
  SpecialTokens special_all;           // both, as the file spells them; empty if there are none after
  std::vector<NormalizerPtr> normalizers;
  std::vector<SplitStepPtr> steps;
  std::unique_ptr<const Model> model;
  bool user_defined_in_model = false;   // which weighs them: they are not looked for before
  std::vector<int32_t> prefix, suffix;  // around a text
  Decoder decoder;
  int32_t bos = -1, eos = -1, unknown = -1, padding = -1;
  std::vector<int32_t> ends;  // a text
};

// "name" of a vocabulary in front of each message. kData: a file that contradicts itself; kUnsupported: what is not
// known, by its place in the file.
Result<Pipeline> gguf_pipeline(const Vocabulary& vocabulary);
Result<Pipeline> files_pipeline(const Vocabulary& vocabulary);  // by what the folder has

}  // namespace fovea::tokenizers
