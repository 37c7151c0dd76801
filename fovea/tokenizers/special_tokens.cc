#include "fovea/tokenizers/special_tokens.h"

#include <algorithm>

namespace fovea::tokenizers {

SpecialTokens::SpecialTokens(std::vector<Token> tokens) : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end(), [](const Token& a, const Token& b) { return a.spelling < b.spelling; });
  for (const Token& token : tokens_) begins_[static_cast<unsigned char>(token.spelling[0])] |= token.control ? 1 : 2;
}

const SpecialTokens::Token* SpecialTokens::longest_at(std::string_view text, bool control) const {
  const Token* best = nullptr;
  auto first = tokens_.begin(), last = tokens_.end();
  for (size_t i = 0; i < text.size() && first != last; ++i) {
    // Of the tokens that agree in the first i bytes, those that have text[i] next.
    const auto byte_at = [i](const Token& token) { return static_cast<unsigned char>(token.spelling[i]); };
    const auto wanted = static_cast<unsigned char>(text[i]);
    first = std::partition_point(first, last,
                                 [&](const Token& t) { return t.spelling.size() <= i || byte_at(t) < wanted; });
    last = std::partition_point(first, last, [&](const Token& t) { return byte_at(t) <= wanted; });
    if (first != last && first->spelling.size() == i + 1 && (control || !first->control)) best = &*first;
  }
  return best;
}

SpecialTokens::Match SpecialTokens::next(std::string_view text, size_t from, bool control) const {
  const int wanted = control ? 3 : 2;
  for (size_t i = from; i < text.size(); ++i) {
    if (!(begins_[static_cast<unsigned char>(text[i])] & wanted)) continue;
    if (const Token* token = longest_at(text.substr(i), control)) return {i, i + token->spelling.size(), token->id};
  }
  return {text.size(), text.size(), -1};
}

int32_t SpecialTokens::find(std::string_view spelling) const {
  const auto it = std::lower_bound(tokens_.begin(), tokens_.end(), spelling,
                                   [](const Token& t, std::string_view s) { return t.spelling < s; });
  return it != tokens_.end() && it->spelling == spelling ? it->id : -1;
}

}  // namespace fovea::tokenizers
