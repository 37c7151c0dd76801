// Finds whole tokens such as <|im_end|> in text: the leftmost, and of those the longest.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace fovea::tokenizers {

class SpecialTokens {
 public:
  static constexpr size_t kMaxBytes = 256;  // of a spelling: what is looked at for each byte of text

  struct Token {
    std::string spelling;
    int32_t id = -1;
    bool control = false;
    bool single_word = false;             // not where a letter or the like goes before or behind it
    bool lstrip = false, rstrip = false;  // the white space before or behind it belongs to it
  };
  struct Match {
    size_t begin = 0, end = 0;
    int32_t id = -1;  // -1: none, and begin is the end of the text
    size_t next = 0;  // the end of its spelling: others may begin in the white space behind it
  };

  SpecialTokens() = default;
  // The spellings are not empty, and no two are equal.
  explicit SpecialTokens(std::vector<Token> tokens);

  // The first at or after `from`, the `next` of the last one, which ended at `ended`; control tokens only if `control`.
  Match next(std::string_view text, size_t from, size_t ended, bool control) const;
  int32_t find(std::string_view spelling) const;  // -1: none
  bool empty() const { return tokens_.empty(); }

 private:
  const Token* longest_at(std::string_view text, bool control) const;

  std::vector<Token> tokens_;                  // by spelling
  std::array<uint8_t, 256> begins_ = {};       // with this byte: 1 a control token, 2 another; 4: one of a single byte
  std::unique_ptr<std::bitset<65536>> pairs_;  // of first bytes
};

}  // namespace fovea::tokenizers
