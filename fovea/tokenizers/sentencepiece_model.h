// The file tokenizer.model: SentencePiece's ModelProto, in the wire format of protocol buffers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tokenizers/pipeline.h"
#include "fovea/tokenizers/vocabulary.h"

namespace fovea::tokenizers {

// What the file says; views into it.
struct SentencePieceModel {
  enum class Kind { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };
  Kind kind = Kind::kUnigram;
  std::vector<std::string_view> pieces;
  std::vector<float> scores;
  std::vector<TokenType> types;
  bool byte_fallback = false, spaces_behind = false;  // the mark of a space ends a word
  int32_t unknown = 0, bos = 1, eos = 2, padding = -1;
  std::string_view charsmap;
  bool add_space_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

// kData names the byte where the file is wrong; kUnsupported a kind that is not known.
Result<SentencePieceModel> parse_sentencepiece(std::string_view bytes, const std::string& name);

// `prefix_always`: a space also comes before what is left of a text behind a special token.
Result<Pipeline> sentencepiece_pipeline(const SentencePieceModel& model, const std::string& name, bool prefix_always);

}  // namespace fovea::tokenizers
