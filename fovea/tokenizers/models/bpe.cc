#include "fovea/tokenizers/models/bpe.h"

#include <algorithm>

#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {

void SymbolTable::set_character(uint32_t c, int32_t id) {
  if (c >= 0x10000) {
    high_[c] = id;
    return;
  }
  if (c >= low_.size()) low_.resize(std::min<size_t>(0x10000, std::max<size_t>(c + 1, low_.size() * 2)), -1);
  low_[c] = id;
}

namespace {

class Bpe final : public Model {
 public:
  explicit Bpe(BpeParts parts) : p_(std::move(parts)) {
    plain_bytes_ = p_.byte_level && !p_.inner_mark && !p_.last_mark;
    if (plain_bytes_) p_.merger->index_bytes(p_.symbols[0][0].bytes());
    if (p_.first_pseudo < 0) p_.first_pseudo = INT32_MAX;
  }

  struct Work final : Scratch {
    PairMerger::Scratch word;
    std::vector<uint32_t> begins;  // of each symbol, and the end of the word
  };
  std::unique_ptr<Scratch> make_scratch() const override { return std::make_unique<Work>(); }

  void encode(std::string_view word, Scratch& scratch, WordTokens& out) const override {
    if (p_.whole_words) {
      const int32_t id = p_.whole_words->find(word, p_.whole_words->hash(word),
                                              [this](int32_t i) { return p_.spellings[static_cast<size_t>(i)]; });
      if (id >= 0) return out.add(id, 0);
    }
    auto& work = static_cast<Work&>(scratch);
    work.word.symbols.clear();
    work.begins.clear();
    if (plain_bytes_) {
      bytes_of(word, work);
    } else {
      symbols_of(word, work);
    }
    work.begins.push_back(static_cast<uint32_t>(word.size()));
    p_.merger->merge(work.word);
    size_t symbol = 0;
    bool was_unknown = false;
    for (size_t i = 0; i < work.word.symbols.size(); ++i) {
      const int32_t id = work.word.symbols[i];
      const uint32_t begin = work.begins[symbol];
      symbol += work.word.spans[i];
      if (id < p_.first_pseudo) {
        out.add(id, begin);
        was_unknown = false;
        continue;
      }
      was_unknown = fall_back(word.substr(begin, work.begins[symbol] - begin), begin, was_unknown, out);
    }
  }

 private:
  // A byte without a token gives nothing, and its neighbours merge.
  void bytes_of(std::string_view word, Work& work) const {
    const std::array<int32_t, 256>& ids = p_.symbols[0][0].bytes();
    for (size_t i = 0; i < word.size(); ++i) {
      const int32_t id = ids[static_cast<unsigned char>(word[i])];
      if (id < 0) continue;
      work.word.symbols.push_back(id);
      work.begins.push_back(static_cast<uint32_t>(i));
    }
  }

  void symbols_of(std::string_view word, Work& work) const {
    const auto add = [&work](int32_t id, size_t at) {
      work.word.symbols.push_back(id);
      work.begins.push_back(static_cast<uint32_t>(at));
    };
    const char *begin = word.data(), *end = begin + word.size();
    size_t unknown_at = word.size();  // of the unknown characters that were met last
    bool pending = false;
    for (const char* p = begin; p < end;) {
      const CodePoint c = code_point_at(p, end);
      const uint32_t n = p_.byte_level ? 1 : std::max(1u, c.bytes);
      const auto at = static_cast<size_t>(p - begin);
      const SymbolTable& table = p_.symbols[p_.inner_mark && p > begin][p_.last_mark && p + n == end];
      int32_t id = -1;
      if (p_.byte_level) {
        id = table.of_byte(static_cast<uint8_t>(*p));
      } else if (c.bytes > 0) {
        id = table.of_character(c.value);
      }
      p += n;
      if (id >= 0) {
        if (pending) add(p_.fallback.unknown, unknown_at);
        pending = false;
        add(id, at);
      } else if (p_.first_pseudo != INT32_MAX) {
        add(INT32_MAX, at);  // in no merge
      } else if (const std::string_view text = word.substr(at, n); p_.fallback.has_bytes(text)) {
        for (size_t i = 0; i < n; ++i) add(p_.fallback.bytes[static_cast<unsigned char>(text[i])], at + i);
      } else if (p_.fallback.unknown >= 0) {
        if (pending && !p_.fallback.fuse) add(p_.fallback.unknown, unknown_at);
        if (!pending || !p_.fallback.fuse) unknown_at = at;
        pending = true;
      }
    }
    if (pending) add(p_.fallback.unknown, unknown_at);
  }

  // Of a character that is no token and was joined to none. True: it is now the unknown token.
  bool fall_back(std::string_view text, size_t begin, bool was_unknown, WordTokens& out) const {
    if (p_.fallback.has_bytes(text)) {
      for (size_t i = 0; i < text.size(); ++i)
        out.add(p_.fallback.bytes[static_cast<unsigned char>(text[i])], begin + i);
      return false;
    }
    if (p_.fallback.unknown < 0) return false;
    if (!was_unknown || !p_.fallback.fuse) out.add(p_.fallback.unknown, begin);
    return true;
  }

  BpeParts p_;
  bool plain_bytes_ = false;
};

}  // namespace

std::unique_ptr<Model> make_bpe(BpeParts parts) { return std::make_unique<Bpe>(std::move(parts)); }

}  // namespace fovea::tokenizers
