// The table by which SentencePiece normalises text: beginnings of it, and what takes their place, in a double-array
// trie (Yata, "Darts-clone") as model files carry it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tokenizers/text_edit.h"

namespace fovea::tokenizers {

// Bytes: uint32 little-endian size of the trie in bytes, the trie's units of uint32, then the replacements, a NUL
// behind each. Empty: nothing is replaced.
class Charsmap {
 public:
  static Result<Charsmap> create(std::string_view bytes);

  // As SentencePiece does: at each place the longest beginning that is in the table.
  void apply_longest(TextEdit& edit) const;
  // As `tokenizers` does: user-perceived characters of less than 6 bytes as a whole, by the shortest beginning that is
  // in the table; other characters one by one.
  void apply_graphemes(TextEdit& edit) const;

 private:
  // The replacement of the beginning of `text` that is in the table, and its length there.
  struct Found {
    std::string_view by;
    size_t length;
  };
  std::optional<Found> find(std::string_view text, bool longest) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
  bool begins_[256] = {};  // with this byte
};

}  // namespace fovea::tokenizers
