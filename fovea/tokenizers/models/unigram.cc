#include "fovea/tokenizers/models/unigram.h"

#include <algorithm>

#include "fovea/tokenizers/models/trie.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

size_t total_bytes(const UnigramParts& parts) {
  size_t n = 0;
  for (const auto& token : parts.tokens) n += token.first.size();
  return n;
}

class Unigram final : public Model {
 public:
  explicit Unigram(const UnigramParts& parts)
      : trie_(total_bytes(parts)),
        scores_(parts.scores),
        unknown_score_(parts.unknown_score),
        fallback_(parts.fallback) {
    for (const auto& [token, id] : parts.tokens) trie_.add(token, id);
  }

  struct Best {  // way to a byte of the word
    double score;
    uint32_t from;
    int32_t id;  // of its last token; kUnknown: a character in none
  };
  struct Work final : Scratch {
    std::vector<Best> best;
    std::vector<uint32_t> ends;
  };
  std::unique_ptr<Scratch> make_scratch() const override { return std::make_unique<Work>(); }

  void encode(std::string_view word, Scratch& scratch, WordTokens& out) const override {
    auto& work = static_cast<Work&>(scratch);
    std::vector<Best>& best = work.best;
    best.assign(word.size() + 1, {0, kNowhere, kUnknown});
    best[0].from = 0;
    const char *begin = word.data(), *end = begin + word.size();
    for (size_t at = 0; at < word.size();) {
      const size_t character = std::max(1u, code_point_at(begin + at, end).bytes);
      const double here = best[at].score;
      bool single = false;
      const auto offer = [&](int32_t id, double score, size_t length) {
        Best& there = best[at + length];
        if (there.from == kNowhere || score > there.score) there = {score, static_cast<uint32_t>(at), id};
      };
      trie_.prefixes(begin + at, end, [&](int32_t id, size_t length) {
        offer(id, here + scores_[static_cast<size_t>(id)], length);
        single = single || length == character;
      });
      if (!single) offer(kUnknown, here + unknown_score_, character);
      at += character;
    }
    work.ends.clear();
    for (size_t at = word.size(); at > 0; at = best[at].from) work.ends.push_back(static_cast<uint32_t>(at));
    size_t unknown_from = kNone, at = 0;
    for (auto e = work.ends.rbegin(); e != work.ends.rend(); at = *e++) {
      const int32_t id = best[*e].id;
      if (id == kUnknown) {
        if (unknown_from != kNone && !fallback_.fuse) give_unknown(word, unknown_from, at, out);
        if (unknown_from == kNone || !fallback_.fuse) unknown_from = at;
        continue;
      }
      if (unknown_from != kNone) give_unknown(word, std::exchange(unknown_from, kNone), at, out);
      out.add(id, at);
    }
    if (unknown_from != kNone) give_unknown(word, unknown_from, word.size(), out);
  }

 private:
  static constexpr int32_t kUnknown = -1;
  static constexpr uint32_t kNowhere = UINT32_MAX;
  static constexpr size_t kNone = SIZE_MAX;

  void give_unknown(std::string_view word, size_t begin, size_t end, WordTokens& out) const {
    const std::string_view text = word.substr(begin, end - begin);
    if (fallback_.has_bytes(text)) {
      for (size_t i = 0; i < text.size(); ++i) out.add(fallback_.bytes[static_cast<unsigned char>(text[i])], begin + i);
    } else if (fallback_.unknown >= 0) {
      out.add(fallback_.unknown, begin);
    }
  }

  Trie trie_;
  std::vector<double> scores_;
  double unknown_score_;
  Fallback fallback_;
};

}  // namespace

std::unique_ptr<Model> make_unigram(const UnigramParts& parts) { return std::make_unique<Unigram>(parts); }

}  // namespace fovea::tokenizers
