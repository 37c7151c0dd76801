#include "fovea/tokenizers/special_tokens.h"

#include <algorithm>

#include "fovea/tokenizers/characters.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

size_t pair_of(char a, char b) { return size_t{static_cast<unsigned char>(a)} << 8 | static_cast<unsigned char>(b); }

bool is_word_before(std::string_view text, size_t at) {
  size_t begin = at;
  while (begin > 0 && at - begin < 4) {
    --begin;
    if ((text[begin] & 0xC0) != 0x80) break;
  }
  const CodePoint c = code_point_at(text.data() + begin, text.data() + at);
  return at > 0 && c.bytes == at - begin && is_word(c.value);
}
bool is_word_at(std::string_view text, size_t at) {
  const CodePoint c = code_point_at(text.data() + at, text.data() + text.size());
  return c.bytes > 0 && is_word(c.value);
}
size_t white_begin(std::string_view text, size_t end, size_t least) {
  while (end > least) {
    size_t begin = end - 1;
    while (begin > least && end - begin < 4 && (text[begin] & 0xC0) == 0x80) --begin;
    const CodePoint c = code_point_at(text.data() + begin, text.data() + end);
    if (c.bytes != end - begin || !is_white(c.value)) break;
    end = begin;
  }
  return end;
}
size_t white_end(std::string_view text, size_t at) {
  while (at < text.size()) {
    const CodePoint c = code_point_at(text.data() + at, text.data() + text.size());
    if (c.bytes == 0 || !is_white(c.value)) break;
    at += c.bytes;
  }
  return at;
}

}  // namespace

SpecialTokens::SpecialTokens(std::vector<Token> tokens)
    : tokens_(std::move(tokens)), pairs_(std::make_unique<std::bitset<65536>>()) {
  std::sort(tokens_.begin(), tokens_.end(), [](const Token& a, const Token& b) { return a.spelling < b.spelling; });
  for (const Token& token : tokens_) {
    uint8_t& begins = begins_[static_cast<unsigned char>(token.spelling[0])];
    begins |= token.control ? 1 : 2;
    if (token.spelling.size() == 1) {
      begins |= 4;
    } else {
      pairs_->set(pair_of(token.spelling[0], token.spelling[1]));
    }
  }
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

SpecialTokens::Match SpecialTokens::next(std::string_view text, size_t from, size_t ended, bool control) const {
  const int wanted = control ? 3 : 2;
  for (size_t i = tokens_.empty() ? text.size() : from; i < text.size(); ++i) {
    const uint8_t begins = begins_[static_cast<unsigned char>(text[i])];
    if (!(begins & wanted)) continue;
    if (!(begins & 4) && (i + 1 == text.size() || !pairs_->test(pair_of(text[i], text[i + 1])))) continue;
    const Token* token = longest_at(text.substr(i), control);
    if (!token) continue;
    size_t begin = i, end = i + token->spelling.size();
    const size_t next = end;
    if (token->single_word && (is_word_before(text, begin) || is_word_at(text, end))) {
      i = end - 1;
      continue;
    }
    if (token->lstrip) begin = white_begin(text, begin, std::min(begin, ended));
    if (token->rstrip) end = white_end(text, end);
    return {begin, end, token->id, next};
  }
  return {text.size(), text.size(), -1, text.size()};
}

int32_t SpecialTokens::find(std::string_view spelling) const {
  const auto it = std::lower_bound(tokens_.begin(), tokens_.end(), spelling,
                                   [](const Token& t, std::string_view s) { return t.spelling < s; });
  return it != tokens_.end() && it->spelling == spelling ? it->id : -1;
}

}  // namespace fovea::tokenizers
