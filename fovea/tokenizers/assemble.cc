#include "fovea/tokenizers/assemble.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "fovea/base/bytes.h"
#include "fovea/tokenizers/byte_letters.h"
#include "fovea/tokenizers/models/bpe.h"
#include "fovea/tokenizers/models/word_piece.h"
#include "fovea/tokenizers/spelling_index.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

Error wrong(const std::string& name, std::string where, std::string what) {
  return Error{ErrorCode::kData, name + ": " + what, std::move(where)};
}

constexpr size_t kBatch = 32;

// Of the tokens that have a spelling.
Result<SpellingIndex> index_of(const Pipeline& p, const std::string& name) {
  SpellingIndex index(p.spellings.size());
  const auto spelling_of = [&p](int32_t id) -> std::string_view { return p.spellings[static_cast<size_t>(id)]; };
  uint32_t hashes[kBatch];
  for (size_t begin = 0; begin < p.spellings.size(); begin += kBatch) {
    const size_t n = std::min(kBatch, p.spellings.size() - begin);
    for (size_t i = 0; i < n; ++i) index.prefetch(hashes[i] = index.hash(p.spellings[begin + i]));
    for (size_t i = begin; i < begin + n; ++i) {
      if (p.spellings[i].empty()) continue;
      const int32_t other = index.add(p.spellings[i], hashes[i - begin], static_cast<int32_t>(i), spelling_of);
      if (other >= 0) {
        return wrong(name, "tokens", fmt::format("tokens {} and {} are both {}", other, i, quote(p.spellings[i])));
      }
    }
  }
  return index;
}

// Merges by the ids of their sides. A vocabulary is larger than the caches near the processor: lookups are made in
// batches, each step of all of them before the next step of any. Without it loading takes twice the time.
class MergeReader {
 public:
  MergeReader(const Pipeline& p, const std::string& name, const BpeSource& source, const SpellingIndex& index,
              PairMerger& merger)
      : p_(p), name_(name), source_(source), index_(index), merger_(merger) {}

  Status read() {
    for (begin_ = 0; begin_ < source_.merges.size(); begin_ += n_) {
      n_ = std::min(kBatch, source_.merges.size() - begin_);
      find_sides();
      FOVEA_RETURN_IF_ERROR(add_batch());
    }
    return {};
  }

 private:
  struct Side {
    std::string_view spelling;
    uint32_t hash;
    int32_t id;
  };

  Error wrong_merge(size_t i, std::string_view why) const {
    const auto& [left, right] = source_.merges[begin_ + i];
    return wrong(name_, source_.merges_where,
                 fmt::format("merge {} {} {}", begin_ + i, quote(fmt::format("{} {}", left, right)), why));
  }
  std::string_view spelling_of(int32_t id) const { return p_.spellings[static_cast<size_t>(id)]; }

  void find_sides() {
    for (size_t i = 0; i < n_; ++i) {
      const auto& [left, right] = source_.merges[begin_ + i];
      sides_[2 * i] = {left, index_.hash(left), -1};
      sides_[2 * i + 1] = {right, index_.hash(right), -1};
    }
    for (size_t i = 0; i < 2 * n_; ++i) index_.prefetch(sides_[i].hash);
    for (size_t i = 0; i < 2 * n_; ++i) {
      sides_[i].id = index_.likely(sides_[i].hash);
      if (sides_[i].id >= 0) __builtin_prefetch(&p_.spellings[static_cast<size_t>(sides_[i].id)]);
    }
    for (size_t i = 0; i < 2 * n_; ++i) {
      if (sides_[i].id >= 0) __builtin_prefetch(spelling_of(sides_[i].id).data());
    }
    for (size_t i = 0; i < 2 * n_; ++i) {
      sides_[i].id = index_.find(sides_[i].spelling, sides_[i].hash, [this](int32_t id) { return spelling_of(id); });
      if (i % 2 == 1) merger_.prefetch(sides_[i - 1].id, sides_[i].id);
    }
  }

  Status add_batch() {
    for (size_t i = 0; i < n_; ++i) {
      const Side &left = sides_[2 * i], &right = sides_[2 * i + 1];
      if (right.spelling.size() < source_.inner_mark.size())
        return wrong_merge(i, "names a token that is not in the vocabulary");
      both_.assign(left.spelling).append(right.spelling.substr(source_.inner_mark.size()));
      // Mostly the vocabulary goes on in the order of the merges.
      const size_t expected = static_cast<size_t>(result_) + 1;  // result_ may be -1: then 0
      const bool goes_on = expected < p_.spellings.size() && p_.spellings[expected] == both_;
      result_ = goes_on ? result_ + 1
                        : index_.find(both_, index_.hash(both_), [this](int32_t id) { return spelling_of(id); });
      if (left.id < 0 || right.id < 0 || result_ < 0)
        return wrong_merge(i, "names a token that is not in the vocabulary");
      // Text must not become a control token.
      const auto text = [this](int32_t id) { return is_text(p_.types[static_cast<size_t>(id)]); };
      if (!text(left.id) || !text(right.id) || !text(result_)) continue;
      if (!merger_.add(left.id, right.id, result_, static_cast<uint32_t>(begin_ + i)))
        return wrong_merge(i, "is there twice");
    }
    return {};
  }

  const Pipeline& p_;
  const std::string& name_;
  const BpeSource& source_;
  const SpellingIndex& index_;
  PairMerger& merger_;
  size_t begin_ = 0, n_ = 0;
  Side sides_[2 * kBatch];
  std::string both_;
  int32_t result_ = -1;
};

// A token without the marks of its place; the table that it would be a symbol of, if it is one character.
void add_symbol(BpeParts& parts, const BpeSource& source, std::string_view spelling, int32_t id) {
  for (const bool inner : {false, true}) {
    for (const bool last : {false, true}) {
      std::string_view bare = spelling;
      if (inner && source.inner_mark.empty()) continue;
      if (last && source.last_mark.empty()) continue;
      if (inner) {
        if (!bare.starts_with(source.inner_mark)) continue;
        bare.remove_prefix(source.inner_mark.size());
      }
      if (last) {
        if (!bare.ends_with(source.last_mark)) continue;
        bare.remove_suffix(source.last_mark.size());
      }
      const CodePoint c = code_point_at(bare.data(), bare.data() + bare.size());
      if (c.bytes == 0 || c.bytes != bare.size()) continue;
      SymbolTable& table = parts.symbols[inner][last];
      std::string byte;
      if (!source.byte_level) {
        table.set_character(c.value, id);
      } else if (append_spelt_bytes(bare, byte) == 1) {
        table.set_byte(static_cast<uint8_t>(byte[0]), id);
      }
    }
  }
}

}  // namespace

bool is_text(TokenType type) {
  return type != TokenType::kControl && type != TokenType::kUnknown && type != TokenType::kUnused;
}

Status set_tokens(Pipeline& p, const std::string& name, std::vector<std::string> spellings,
                  std::vector<TokenType> types) {
  types.resize(spellings.size(), TokenType::kNormal);
  size_t total = 0;
  for (size_t i = 0; i < spellings.size(); ++i) {
    total += spellings[i].size();
    if (spellings[i].size() > kMaxTokenBytes) {
      return wrong(name, "tokens",
                   fmt::format("token {} is {} bytes long; {} are allowed", i, spellings[i].size(), kMaxTokenBytes));
    }
  }
  if (total > UINT32_MAX / 2) return make_error(ErrorCode::kLimit, "{}: {} bytes of tokens", name, total);
  p.spellings = std::move(spellings);
  p.types = std::move(types);
  return {};
}

Status set_special(Pipeline& p, const std::string& name) {
  std::vector<SpecialTokens::Token> special;
  for (size_t i = 0; i < p.spellings.size(); ++i) {
    const bool control = p.types[i] == TokenType::kControl;
    if ((!control && p.types[i] != TokenType::kUserDefined) || p.spellings[i].empty()) continue;
    if (p.spellings[i].size() > SpecialTokens::kMaxBytes) {
      return make_error(ErrorCode::kLimit, "{}: the special token {} is {} bytes long; {} are allowed", name, i,
                        p.spellings[i].size(), SpecialTokens::kMaxBytes);
    }
    special.push_back({p.spellings[i], static_cast<int32_t>(i), control});
  }
  p.special = SpecialTokens(std::move(special));
  return {};
}

int32_t find_end_of_turn(const Pipeline& p, int32_t eos) {
  for (const std::string_view name : {"<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>"}) {
    for (size_t i = 0; i < p.spellings.size(); ++i) {
      if (p.types[i] == TokenType::kControl && p.spellings[i] == name && static_cast<int32_t>(i) != eos)
        return static_cast<int32_t>(i);
    }
  }
  return -1;
}

bool find_byte_tokens(const Pipeline& p, Fallback& fallback) {
  fallback.bytes.fill(-1);
  size_t found = 0;
  for (size_t i = 0; i < p.spellings.size(); ++i) {
    const std::string& s = p.spellings[i];
    if (s.size() != 6 || !s.starts_with("<0x") || s[5] != '>') continue;
    const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
    const int high = digit(s[3]), low = digit(s[4]);
    if (high < 0 || low < 0) continue;
    fallback.bytes[static_cast<size_t>(high << 4 | low)] = static_cast<int32_t>(i);
    ++found;
  }
  return found == 256;
}

Status set_bpe(Pipeline& p, const std::string& name, const BpeSource& source) {
  if (source.merges.size() > UINT32_MAX / 4)
    return make_error(ErrorCode::kLimit, "{}: {} merges", name, source.merges.size());
  FOVEA_ASSIGN_OR_RETURN(const SpellingIndex index, index_of(p, name));
  BpeParts parts;
  parts.byte_level = source.byte_level;
  parts.inner_mark = !source.inner_mark.empty();
  parts.last_mark = !source.last_mark.empty();
  parts.merger = std::make_unique<PairMerger>(source.merges.size());
  FOVEA_RETURN_IF_ERROR(MergeReader(p, name, source, index, *parts.merger).read());
  if (source.byte_fallback) (void)find_byte_tokens(p, parts.fallback);
  parts.fallback.unknown = source.unknown;
  parts.fallback.fuse = source.fuse_unknown;
  std::vector<uint32_t> begins;
  auto storage = std::make_shared<std::string>();
  for (size_t i = 0; i < p.spellings.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const bool text = is_text(p.types[i]) && !p.spellings[i].empty();
    if (text) add_symbol(parts, source, p.spellings[i], id);
    if (!source.whole_words_first) continue;
    begins.push_back(static_cast<uint32_t>(storage->size()));
    if (text && source.byte_level) {
      append_spelt_bytes(p.spellings[i], *storage);
    } else if (text) {
      *storage += p.spellings[i];
    }
  }
  if (source.whole_words_first) {
    begins.push_back(static_cast<uint32_t>(storage->size()));
    parts.whole_words = std::make_unique<SpellingIndex>(p.spellings.size());
    const std::string_view all = *storage;
    for (size_t i = 0; i + 1 < begins.size(); ++i)
      parts.spellings.push_back(all.substr(begins[i], begins[i + 1] - begins[i]));
    const auto spelling_of = [&parts](int32_t id) { return parts.spellings[static_cast<size_t>(id)]; };
    for (size_t i = 0; i < parts.spellings.size(); ++i) {
      if (parts.spellings[i].empty()) continue;
      const uint32_t hash = parts.whole_words->hash(parts.spellings[i]);
      parts.whole_words->add(parts.spellings[i], hash, static_cast<int32_t>(i), spelling_of);
    }
    parts.storage = std::move(storage);
  }
  // A character that becomes nothing lets its neighbours meet, whatever stands between them.
  const bool vanishes = source.unknown < 0;
  const bool can_cut = !source.byte_level && !parts.inner_mark && !parts.last_mark && !source.whole_words_first;
  p.model = make_bpe(std::move(parts));
  if (can_cut) cut_words(p, vanishes);
  return {};
}

Status set_scored_bpe(Pipeline& p, const std::string& name, const std::vector<float>& scores,
                      const Fallback& fallback) {
  if (scores.size() != p.spellings.size())
    return wrong(name, "scores", fmt::format("{} scores for {} tokens", scores.size(), p.spellings.size()));
  FOVEA_ASSIGN_OR_RETURN(SpellingIndex index, index_of(p, name));
  // Equal scores share a rank: then the leftmost pair goes first, whatever it makes.
  std::vector<int32_t> order;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!std::isfinite(scores[i]))
      return wrong(name, "scores", fmt::format("the score of token {} is {}", i, scores[i]));
    // A token of a byte is what a character becomes last, not what letters are joined to.
    if (is_text(p.types[i]) && p.types[i] != TokenType::kByte && !p.spellings[i].empty())
      order.push_back(static_cast<int32_t>(i));
  }
  const auto score = [&scores](int32_t id) { return scores[static_cast<size_t>(id)]; };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return score(a) > score(b); });

  std::vector<bool> joins(p.spellings.size(), false);
  size_t n_cuts = 0;
  for (const int32_t id : order) {
    joins[static_cast<size_t>(id)] = true;
    n_cuts += p.spellings[static_cast<size_t>(id)].size();
  }
  BpeParts parts;
  parts.fallback = fallback;
  parts.first_pseudo = static_cast<int32_t>(p.spellings.size());
  int32_t next_pseudo = parts.first_pseudo;
  // Characters that tokens are made of; those that are none themselves are symbols nevertheless.
  for (const int32_t id : order) {
    const std::string& s = p.spellings[static_cast<size_t>(id)];
    const CodePoint c = code_point_at(s.data(), s.data() + s.size());
    if (c.bytes == s.size()) parts.symbols[0][0].set_character(c.value, id);
  }
  const auto spelling_of = [&p](int32_t id) -> std::string_view { return p.spellings[static_cast<size_t>(id)]; };
  const auto side = [&](std::string_view text) -> int32_t {  // -1: neither a token nor a character
    const CodePoint c = code_point_at(text.data(), text.data() + text.size());
    if (c.bytes == text.size()) {
      int32_t symbol = parts.symbols[0][0].of_character(c.value);
      if (symbol < 0) parts.symbols[0][0].set_character(c.value, symbol = next_pseudo++);
      return symbol;
    }
    const int32_t id = index.find(text, index.hash(text), spelling_of);
    return id >= 0 && joins[static_cast<size_t>(id)] ? id : -1;
  };
  struct Merge {
    int32_t left, right, result;
    uint32_t rank;
  };
  std::vector<Merge> merges;
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && score(order[i]) != score(order[i - 1])) ++rank;
    const std::string_view s = p.spellings[static_cast<size_t>(order[i])];
    if (s.size() > 512) {
      if (n_cuts > (size_t{1} << 28)) return make_error(ErrorCode::kLimit, "{}: {} bytes of tokens", name, n_cuts);
    }
    for (size_t at = 0;;) {
      at += std::max(1u, code_point_at(s.data() + at, s.data() + s.size()).bytes);
      if (at >= s.size()) break;
      const int32_t left = side(s.substr(0, at));
      if (left < 0) continue;
      const int32_t right = side(s.substr(at));
      if (right >= 0) merges.push_back({left, right, order[i], rank});
    }
  }
  parts.merger = std::make_unique<PairMerger>(merges.size());
  for (const Merge& m : merges) parts.merger->add(m.left, m.right, m.result, m.rank);
  p.model = make_bpe(std::move(parts));
  cut_words(p, false);
  return {};
}

Status set_unigram(Pipeline& p, const std::string& name, std::vector<double> scores, double lowest,
                   const Fallback& fallback) {
  if (scores.size() != p.spellings.size())
    return wrong(name, "scores", fmt::format("{} scores for {} tokens", scores.size(), p.spellings.size()));
  FOVEA_RETURN_IF_ERROR(index_of(p, name));
  UnigramParts parts;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!std::isfinite(scores[i]))
      return wrong(name, "scores", fmt::format("the score of token {} is {}", i, scores[i]));
    if (is_text(p.types[i]) && p.types[i] != TokenType::kByte && !p.spellings[i].empty())
      parts.tokens.emplace_back(p.spellings[i], static_cast<int32_t>(i));
  }
  parts.scores = std::move(scores);
  parts.unknown_score = lowest - 10;
  parts.fallback = fallback;
  p.model =
      make_unigram(parts);  // words are not cut: sums of scores would round otherwise, which decides between equals
  return {};
}

Status set_word_piece(Pipeline& p, const std::string& inner_mark, int32_t unknown, size_t max_characters) {
  WordPieceParts parts;
  for (size_t i = 0; i < p.spellings.size(); ++i) {
    const std::string_view s = p.spellings[i];
    if (!is_text(p.types[i]) || s.empty()) continue;
    parts.first.emplace_back(s, static_cast<int32_t>(i));
    if (s.starts_with(inner_mark) && s.size() > inner_mark.size())
      parts.inner.emplace_back(s.substr(inner_mark.size()), static_cast<int32_t>(i));
  }
  parts.unknown = unknown;
  parts.max_characters = max_characters;
  p.model = make_word_piece(parts);
  return {};
}

void cut_words(Pipeline& p, bool only_all) {
  bool mark = false;
  std::vector<uint32_t> kept;  // characters that stand before a mark in some token
  for (size_t i = 0; i < p.spellings.size(); ++i) {
    if (!is_text(p.types[i])) continue;
    const std::string_view s = p.spellings[i];
    mark = mark || s == kSpaceMark;
    size_t at = 0;
    while (s.substr(at, kSpaceMark.size()) == kSpaceMark) at += kSpaceMark.size();
    for (at = s.find(kSpaceMark, at); at != s.npos; at = s.find(kSpaceMark, at + kSpaceMark.size()))
      kept.push_back(character_before(s, at));
  }
  std::sort(kept.begin(), kept.end());
  kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
  if (mark && (kept.empty() || !only_all)) p.steps.push_back(make_cut_before(std::string(kSpaceMark), std::move(kept)));
}

}  // namespace fovea::tokenizers
