// Byte-pair encoding of words that are bytes, or characters, with what the published tokenizers add: marks at the
// beginning of inner symbols or at the end of a word, whole words first, and fallbacks for unknown characters.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "fovea/tokenizers/models/fallback.h"
#include "fovea/tokenizers/models/model.h"
#include "fovea/tokenizers/models/pair_merger.h"
#include "fovea/tokenizers/spelling_index.h"

namespace fovea::tokenizers {

// Which symbol a byte or a character is, where it stands in a word.
class SymbolTable {
 public:
  SymbolTable() { bytes_.fill(-1); }
  void set_byte(uint8_t byte, int32_t id) { bytes_[byte] = id; }
  void set_character(uint32_t c, int32_t id);
  int32_t of_byte(uint8_t byte) const { return bytes_[byte]; }
  int32_t of_character(uint32_t c) const {  // -1: none
    if (c < low_.size()) return low_[c];
    if (c < 0x10000) return -1;
    const auto it = high_.find(c);
    return it == high_.end() ? -1 : it->second;
  }
  const std::array<int32_t, 256>& bytes() const { return bytes_; }

 private:
  std::array<int32_t, 256> bytes_;
  std::vector<int32_t> low_;
  std::unordered_map<uint32_t, int32_t> high_;
};

struct BpeParts {
  bool byte_level = false;
  bool inner_mark = false, last_mark = false;  // symbols differ inside a word, or at its end
  // By place in the word: [inner][last]; those that the marks do not tell apart are not read.
  SymbolTable symbols[2][2];
  std::unique_ptr<PairMerger> merger;
  Fallback fallback;
  // Symbols from here on are no tokens, but may be joined to one; alone they fall back. -1: there are none.
  int32_t first_pseudo = -1;
  // Words that are tokens, taken whole; null: merges decide. Spellings are those of the word.
  std::unique_ptr<SpellingIndex> whole_words;
  std::vector<std::string_view> spellings;     // by id, for whole_words
  std::shared_ptr<const std::string> storage;  // of the spellings
};

std::unique_ptr<Model> make_bpe(BpeParts parts);

}  // namespace fovea::tokenizers
