// Models out of the lists that files hold: tokens, merges, scores.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tokenizers/models/model.h"
#include "fovea/tokenizers/models/unigram.h"
#include "fovea/tokenizers/pipeline.h"

namespace fovea::tokenizers {

constexpr size_t kMaxTokenBytes = 64 << 10;
inline const std::string kSpaceMark = "\xE2\x96\x81";  // U+2581, as SentencePiece writes a space

// Text may become these; control tokens only where a caller asks for them, and the others not at all.
bool is_text(TokenType type);

// kData, and its place: two tokens of one spelling, one that is too long. Fills pipeline.spellings and types.
Status set_tokens(Pipeline& pipeline, const std::string& name, std::vector<std::string> spellings,
                  std::vector<TokenType> types);
// pipeline.special from its control and user-defined tokens.
Status set_special(Pipeline& pipeline, const std::string& name);
// Chat models end a turn with one of a few tokens; not every file says which. -1: none of them is there, or it is
// `eos`.
int32_t find_end_of_turn(const Pipeline& pipeline, int32_t eos);
// The tokens "<0x00>" to "<0xFF>"; false: not all are there.
bool find_byte_tokens(const Pipeline& pipeline, Fallback& fallback);

struct BpeSource {
  std::vector<std::pair<std::string_view, std::string_view>> merges;  // best first
  std::string merges_where = "merges";                                // of the merges, for messages
  bool byte_level = false;                                            // spellings are bytes as letters, words are bytes
  std::string inner_mark, last_mark;                                  // "##", "</w>"; or empty
  bool whole_words_first = false;
  bool byte_fallback = false, fuse_unknown = false;
  int32_t unknown = -1;
};
// Tokens that are no text become no result of a merge.
Status set_bpe(Pipeline& pipeline, const std::string& name, const BpeSource& source);

// SentencePiece's pairs: any two neighbours that are a token together, that of the greatest score first.
Status set_scored_bpe(Pipeline& pipeline, const std::string& name, const std::vector<float>& scores,
                      const Fallback& fallback);
// `lowest`: the lowest score that counts for unknown characters, which have 10 less.
Status set_unigram(Pipeline& pipeline, const std::string& name, std::vector<double> scores, double lowest,
                   const Fallback& fallback);
Status set_word_piece(Pipeline& pipeline, const std::string& inner_mark, int32_t unknown, size_t max_characters);
// Adds a cut before spaces, but for those that some token has behind another character; `only_all`: none if there are
// any.
void cut_words(Pipeline& pipeline, bool only_all);

}  // namespace fovea::tokenizers
