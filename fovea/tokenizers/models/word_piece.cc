#include "fovea/tokenizers/models/word_piece.h"

#include <algorithm>

#include "fovea/tokenizers/models/trie.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

using Tokens = std::vector<std::pair<std::string_view, int32_t>>;

Trie trie_of(const Tokens& tokens) {
  size_t n = 0;
  for (const auto& token : tokens) n += token.first.size();
  Trie trie(n);
  for (const auto& [token, id] : tokens) trie.add(token, id);
  return trie;
}

bool has_more_characters(std::string_view word, size_t most) {
  if (word.size() <= most) return false;
  size_t n = 0;
  for (const char *p = word.data(), *end = p + word.size(); p < end; ++n)
    p += std::max(1u, code_point_at(p, end).bytes);
  return n > most;
}

class WordPiece final : public Model {
 public:
  explicit WordPiece(const WordPieceParts& parts)
      : first_(trie_of(parts.first)),
        inner_(trie_of(parts.inner)),
        unknown_(parts.unknown),
        most_(parts.max_characters) {}
  std::unique_ptr<Scratch> make_scratch() const override { return std::make_unique<Scratch>(); }

  void encode(std::string_view word, Scratch&, WordTokens& out) const override {
    const size_t before = out.ids.size();
    bool known = !has_more_characters(word, most_);
    for (size_t at = 0; known && at < word.size();) {
      int32_t best = -1;
      size_t length = 0;
      // Tokens are whole characters, so that what the longest leaves starts with one.
      (at == 0 ? first_ : inner_).prefixes(word.data() + at, word.data() + word.size(), [&](int32_t id, size_t n) {
        best = id;
        length = n;
      });
      known = best >= 0;
      if (known) out.add(best, at);
      at += length;
    }
    if (known) return;
    out.ids.resize(before);
    out.starts.resize(before);
    if (unknown_ >= 0) out.add(unknown_, 0);
  }

 private:
  Trie first_, inner_;
  int32_t unknown_;
  size_t most_;
};

class WordLevel final : public Model {
 public:
  WordLevel(const Tokens& words, int32_t unknown) : words_(trie_of(words)), unknown_(unknown) {}
  std::unique_ptr<Scratch> make_scratch() const override { return std::make_unique<Scratch>(); }
  void encode(std::string_view word, Scratch&, WordTokens& out) const override {
    int32_t found = unknown_;
    words_.prefixes(word.data(), word.data() + word.size(), [&](int32_t id, size_t n) {
      if (n == word.size()) found = id;
    });
    if (found >= 0) out.add(found, 0);
  }

 private:
  Trie words_;
  int32_t unknown_;
};

}  // namespace

std::unique_ptr<Model> make_word_piece(const WordPieceParts& parts) { return std::make_unique<WordPiece>(parts); }
std::unique_ptr<Model> make_word_level(const Tokens& words, int32_t unknown) {
  return std::make_unique<WordLevel>(words, unknown);
}

}  // namespace fovea::tokenizers
