// Vocabularies for tests and fuzzing: the 256 bytes are tokens 0 to 255, then comes what is added.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/tokenizers/byte_letters.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::tokenizers {

class TestVocabulary {
 public:
  TestVocabulary() {
    for (int byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      std::string letter;
      append_spelling({&c, 1}, letter);
      add(letter, TokenType::kNormal);
    }
  }

  int32_t add(std::string spelling, TokenType type) {
    tokens_.push_back(std::move(spelling));
    types_.push_back(type);
    return static_cast<int32_t>(tokens_.size()) - 1;
  }
  int32_t find(std::string_view spelling) const {
    const auto it = std::find(tokens_.begin(), tokens_.end(), spelling);
    return it == tokens_.end() ? -1 : static_cast<int32_t>(it - tokens_.begin());
  }
  // Adds the merge of two plain tokens, and a token for its result if there is none. False: it is there.
  bool merge(int32_t left, int32_t right) {
    const std::string &l = tokens_[static_cast<size_t>(left)], &r = tokens_[static_cast<size_t>(right)];
    std::string merge = l + " " + r;
    if (std::find(merges_.begin(), merges_.end(), merge) != merges_.end()) return false;
    if (const std::string both = l + r; find(both) < 0) add(both, TokenType::kNormal);
    merges_.push_back(std::move(merge));
    return true;
  }
  // By spelling of the bytes: merge("th", "e").
  int32_t merge(std::string_view left, std::string_view right) {
    std::string l, r;
    append_spelling(left, l);
    append_spelling(right, r);
    merge(find(l), find(r));
    return find(l + r);
  }
  void shuffle_merges(Rng& random) {
    for (size_t i = merges_.size(); i > 1; --i) std::swap(merges_[i - 1], merges_[random.below(i)]);
  }

  size_t size() const { return tokens_.size(); }
  // Views into this.
  Vocabulary view(std::string_view pre) const {
    Vocabulary v;
    v.name = "test";
    v.kind = "gpt2";
    v.pre = pre;
    v.tokens.assign(tokens_.begin(), tokens_.end());
    v.types = types_;
    v.merges.assign(merges_.begin(), merges_.end());
    return v;
  }

 private:
  std::vector<std::string> tokens_, merges_;
  std::vector<TokenType> types_;
};

}  // namespace fovea::tokenizers
