// Finds whole tokens such as <|im_end|> in text: the leftmost, and of those the longest.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace fovea::tokenizers {

class SpecialTokens {
 public:
  static constexpr size_t kMaxBytes = 256;  // of a spelling: what is looked at for each byte of text

  struct Token {
    std::string_view spelling;
    int32_t id = -1;
    bool control = false;
  };
  struct Match {
    size_t begin = 0, end = 0;
    int32_t id = -1;  // -1: none, and begin is the end of the text
  };

  SpecialTokens() = default;
  // The spellings are not empty, no two are equal, and they live as long as this.
  explicit SpecialTokens(std::vector<Token> tokens);

  // The first at or after `from`; control tokens only if `control`.
  Match next(std::string_view text, size_t from, bool control) const;
  int32_t find(std::string_view spelling) const;  // -1: none

 private:
  const Token* longest_at(std::string_view text, bool control) const;

  std::vector<Token> tokens_;             // by spelling
  std::array<uint8_t, 256> begins_ = {};  // with this byte: 1 a control token, 2 another
};

}  // namespace fovea::tokenizers
