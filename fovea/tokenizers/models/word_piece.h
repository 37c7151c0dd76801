// WordPiece (BERT): the longest token that the rest of a word begins with, again and again; a word that does not come
// out is the unknown token. And the plainest model, a list of words.
#pragma once

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "fovea/tokenizers/models/model.h"

namespace fovea::tokenizers {

struct WordPieceParts {
  std::vector<std::pair<std::string_view, int32_t>> first;  // tokens at the start of a word; none empty
  std::vector<std::pair<std::string_view, int32_t>> inner;  // after it, without the mark that says so
  int32_t unknown = -1;                                     // -1: such a word gives nothing
  size_t max_characters = 100;                              // longer words are unknown
};
std::unique_ptr<Model> make_word_piece(const WordPieceParts& parts);

// Words that are tokens; others are `unknown` (-1: give nothing).
std::unique_ptr<Model> make_word_level(const std::vector<std::pair<std::string_view, int32_t>>& words, int32_t unknown);

}  // namespace fovea::tokenizers
