#include "fovea/tokenizers/tokenizer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>

#include "fovea/base/bytes.h"
#include "fovea/base/check.h"
#include "fovea/tokenizers/bpe.h"
#include "fovea/tokenizers/byte_letters.h"
#include "fovea/tokenizers/nfc.h"
#include "fovea/tokenizers/pretokenize.h"
#include "fovea/tokenizers/special_tokens.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

constexpr size_t kMaxTokenBytes = 64 << 10;

// Spelling -> id, open addressing. Keeps no copy of the spellings.
class SpellingIndex {
 public:
  explicit SpellingIndex(size_t n)
      : slots_(std::bit_ceil(std::max<size_t>(16, n * 3 / 2)), Slot{0, -1}), seed_(std::random_device{}()) {}

  // A file could be made whose spellings all fall on one slot, were the seed known.
  uint32_t hash(std::string_view s) const {
    uint64_t h = seed_ ^ s.size();
    const auto mix = [&h](uint64_t word) {
      h = (h ^ word) * 0x9E3779B97F4A7C15u;
      h ^= h >> 29;
    };
    const char* p = s.data();
    size_t n = s.size();
    for (; n >= 8; n -= 8, p += 8) {
      uint64_t word;
      std::memcpy(&word, p, 8);
      mix(word);
    }
    uint64_t word = 0;
    std::memcpy(&word, p, n);
    mix(word);
    return static_cast<uint32_t>(h * 0xD6E8FEB86659FD93u >> 32);
  }
  // `h` is hash(s), `spelling_of` leads from id to spelling. -1: none.
  template <typename SpellingOf>
  int32_t find(std::string_view s, uint32_t h, const SpellingOf& spelling_of) const {
    for (size_t i = h & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[i];
      if (slot.id < 0 || (slot.hash == h && spelling_of(slot.id) == s)) return slot.id;
    }
  }
  // The id that has the spelling already, or -1.
  template <typename SpellingOf>
  int32_t add(std::string_view s, uint32_t h, int32_t id, const SpellingOf& spelling_of) {
    size_t i = h & (slots_.size() - 1);
    for (; slots_[i].id >= 0; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i].hash == h && spelling_of(slots_[i].id) == s) return slots_[i].id;
    }
    slots_[i] = {h, id};
    return -1;
  }
  // A vocabulary is larger than the caches near the processor: lookups are made in batches, each step
  // of all of them before the next step of any. Without it loading takes twice the time.
  void prefetch(uint32_t h) const { __builtin_prefetch(&slots_[h & (slots_.size() - 1)]); }
  int32_t likely(uint32_t h) const { return slots_[h & (slots_.size() - 1)].id; }

 private:
  struct Slot {
    uint32_t hash;
    int32_t id;
  };
  std::vector<Slot> slots_;
  uint64_t seed_;
};

// Tokens of the words met last in one text: most words of a text are among them.
class WordCache {
 public:
  static constexpr size_t kMaxBytes = 15, kMaxIds = 11;
  struct Entry {
    uint64_t key[2];  // the bytes of the word, zeros, its length; all 0: free
    uint32_t n_ids;
    int32_t ids[kMaxIds];
  };

  explicit WordCache(size_t text_bytes) : entries_(std::bit_ceil(std::clamp<size_t>(text_bytes / 16, 16, 8192))) {}

  // Its entry, or the one to overwrite (n_ids is 0 then). Precondition: 1 to kMaxBytes bytes.
  Entry& at(std::string_view word) {
    uint64_t key[2] = {0, 0};
    std::memcpy(key, word.data(), word.size());
    key[1] |= uint64_t{word.size()} << 56;
    uint64_t h = (key[0] ^ std::rotl(key[1], 23)) * 0x9E3779B97F4A7C15u;
    h ^= h >> 32;
    Entry& entry = entries_[static_cast<size_t>(h * 0xD6E8FEB86659FD93u >> 40) & (entries_.size() - 1)];
    if (entry.key[0] != key[0] || entry.key[1] != key[1]) entry = {{key[0], key[1]}, 0, {}};
    return entry;
  }

 private:
  std::vector<Entry> entries_;
};

}  // namespace

struct Tokenizer::Impl {
  const PreTokenizer* pre = nullptr;
  std::string pieces;                 // the bytes of all tokens, one after the other
  std::vector<uint32_t> piece_begin;  // and where each starts; one more for the end
  std::vector<TokenType> types;
  std::vector<bool> ends;
  std::unique_ptr<PairMerger> merger;
  SpecialTokens special;
  std::unique_ptr<SpellingIndex> by_bytes;  // only where whole words go first
  int32_t bos = -1, eos = -1;
  bool add_bos = false, add_eos = false;

  size_t size() const { return types.size(); }
  std::string_view piece(int32_t id) const {
    const auto i = static_cast<size_t>(id);
    return std::string_view(pieces).substr(piece_begin[i], piece_begin[i + 1] - piece_begin[i]);
  }
  bool is_hidden(int32_t id) const {
    const TokenType type = types[static_cast<size_t>(id)];
    return type == TokenType::kControl || type == TokenType::kUnknown || type == TokenType::kUnused;
  }
};

namespace {

using Impl = Tokenizer::Impl;

// `field`: of Vocabulary, as a file's reader spells it too.
Error bad_vocabulary(const Vocabulary& v, const char* field, std::string what) {
  return Error{ErrorCode::kData, v.name + ": " + what, field};
}

Status check_shape(const Vocabulary& v) {
  if (v.kind != "gpt2") {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: a tokenizer of kind {} is not supported; \"gpt2\" (byte-level pairs) is", v.name,
                             quoted(v.kind)),
                 "model"};
  }
  if (!find_pre_tokenizer(v.pre)) {
    std::string known;
    for (const PreTokenizer& pre : pre_tokenizers()) known += fmt::format("{}{}", known.empty() ? "" : ", ", pre.name);
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: the pre-tokenizer {} is not supported; these are: {}", v.name, quoted(v.pre), known),
                 "pre"};
  }
  if (v.tokens.empty() || v.tokens.size() > INT32_MAX)
    return bad_vocabulary(v, "tokens", fmt::format("a vocabulary of {} tokens", v.tokens.size()));
  if (!v.types.empty() && v.types.size() != v.tokens.size()) {
    return bad_vocabulary(v, "token_type",
                          fmt::format("{} token types for {} tokens", v.types.size(), v.tokens.size()));
  }
  if (v.merges.size() > UINT32_MAX / 2) return make_error(ErrorCode::kLimit, "{}: {} merges", v.name, v.merges.size());
  const std::pair<const char*, int32_t> ids[] = {{"bos", v.bos}, {"eos", v.eos},         {"eot", v.eot},
                                                 {"eom", v.eom}, {"unknown", v.unknown}, {"padding", v.padding}};
  for (const auto& [name, id] : ids) {
    if (id >= -1 && id < static_cast<int64_t>(v.tokens.size())) continue;
    return bad_vocabulary(v, "tokens",
                          fmt::format("the {} token is {}; the vocabulary has {} tokens", name, id, v.tokens.size()));
  }
  return {};
}

// Bytes of the tokens; `widths` as PairMerger wants them.
Status read_tokens(const Vocabulary& v, Impl& impl, std::vector<uint32_t>& widths, std::vector<int32_t>& byte_ids) {
  const size_t n = v.tokens.size();
  impl.types = v.types;
  impl.types.resize(n, TokenType::kNormal);
  impl.piece_begin.reserve(n + 1);
  impl.piece_begin.push_back(0);
  widths.assign(n, 0);
  byte_ids.assign(256, -1);
  size_t total = 0;
  for (const std::string_view token : v.tokens) total += token.size();
  if (total > UINT32_MAX) return make_error(ErrorCode::kLimit, "{}: {} bytes of tokens", v.name, total);
  impl.pieces.reserve(total);
  std::vector<SpecialTokens::Token> special;
  for (size_t i = 0; i < n; ++i) {
    const std::string_view token = v.tokens[i];
    const auto id = static_cast<int32_t>(i);
    if (token.size() > kMaxTokenBytes)
      return bad_vocabulary(v, "tokens",
                            fmt::format("token {} is {} bytes long; {} are allowed", i, token.size(), kMaxTokenBytes));
    const TokenType type = impl.types[i];
    const bool is_special = type == TokenType::kControl || type == TokenType::kUserDefined;
    if (is_special && token.size() > SpecialTokens::kMaxBytes) {
      return make_error(ErrorCode::kLimit, "{}: the special token {} is {} bytes long; {} are allowed", v.name, i,
                        token.size(), SpecialTokens::kMaxBytes);
    }
    if (is_special && !token.empty()) special.push_back({token, id, type == TokenType::kControl});
    if (!is_special && !impl.is_hidden(id)) widths[i] = static_cast<uint32_t>(append_spelt_bytes(token, impl.pieces));
    if (widths[i] == 0) impl.pieces += token;
    if (widths[i] == 1) byte_ids[static_cast<unsigned char>(impl.pieces.back())] = id;
    impl.piece_begin.push_back(static_cast<uint32_t>(impl.pieces.size()));
  }
  for (auto& token : special) token.spelling = impl.piece(token.id);
  impl.special = SpecialTokens(std::move(special));
  return {};
}

class MergeReader {
 public:
  MergeReader(const Vocabulary& v, const SpellingIndex& index, const std::vector<uint32_t>& widths, PairMerger& merger)
      : v_(v), index_(index), widths_(widths), merger_(merger) {}

  Status read() {
    for (begin_ = 0; begin_ < v_.merges.size(); begin_ += n_) {
      n_ = std::min(kBatch, v_.merges.size() - begin_);
      for (size_t i = 0; i < n_; ++i) {
        const std::string_view merge = v_.merges[begin_ + i];
        const size_t space = merge.find(' ', 1);
        if (space == merge.npos || space + 1 == merge.size()) return wrong(i, "is not two tokens with a space between");
        sides_[2 * i] = {merge.substr(0, space), index_.hash(merge.substr(0, space)), -1};
        sides_[2 * i + 1] = {merge.substr(space + 1), index_.hash(merge.substr(space + 1)), -1};
      }
      find_sides();
      FOVEA_RETURN_IF_ERROR(add_batch());
    }
    return {};
  }

 private:
  static constexpr size_t kBatch = 32;
  struct Side {
    std::string_view spelling;
    uint32_t hash;
    int32_t id;
  };

  Error wrong(size_t i, std::string_view why) const {
    return bad_vocabulary(v_, "merges", fmt::format("merge {} {} {}", begin_ + i, quoted(v_.merges[begin_ + i]), why));
  }
  std::string_view spelling_of(int32_t id) const { return v_.tokens[static_cast<size_t>(id)]; }
  uint32_t width(int32_t id) const { return widths_[static_cast<size_t>(id)]; }

  void find_sides() {
    for (size_t i = 0; i < 2 * n_; ++i) index_.prefetch(sides_[i].hash);
    for (size_t i = 0; i < 2 * n_; ++i) {
      sides_[i].id = index_.likely(sides_[i].hash);
      if (sides_[i].id >= 0) __builtin_prefetch(&v_.tokens[static_cast<size_t>(sides_[i].id)]);
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
      both_.assign(left.spelling).append(right.spelling);
      // Mostly the vocabulary goes on in the order of the merges.
      const size_t expected = static_cast<size_t>(result_) + 1;  // result_ may be -1: then 0
      const bool goes_on = expected < v_.tokens.size() && v_.tokens[expected] == both_;
      result_ = goes_on ? result_ + 1
                        : index_.find(both_, index_.hash(both_), [this](int32_t id) { return spelling_of(id); });
      if (left.id < 0 || right.id < 0 || result_ < 0) return wrong(i, "names a token that is not in the vocabulary");
      // What is no string of bytes never comes up, and text must not become a control token.
      if (width(left.id) == 0 || width(right.id) == 0 || width(result_) == 0) continue;
      if (!merger_.add(left.id, right.id, result_)) return wrong(i, "is there twice");
    }
    return {};
  }

  const Vocabulary& v_;
  const SpellingIndex& index_;
  const std::vector<uint32_t>& widths_;
  PairMerger& merger_;
  size_t begin_ = 0, n_ = 0;
  Side sides_[2 * kBatch];
  std::string both_;
  int32_t result_ = -1;
};

Status fill(SpellingIndex& index, const Vocabulary& v) {
  const auto spelling_of = [&v](int32_t id) { return v.tokens[static_cast<size_t>(id)]; };
  constexpr size_t kBatch = 32;
  uint32_t hashes[kBatch];
  for (size_t begin = 0; begin < v.tokens.size(); begin += kBatch) {
    const size_t n = std::min(kBatch, v.tokens.size() - begin);
    for (size_t i = 0; i < n; ++i) index.prefetch(hashes[i] = index.hash(v.tokens[begin + i]));
    for (size_t i = begin; i < begin + n; ++i) {
      const int32_t other = index.add(v.tokens[i], hashes[i - begin], static_cast<int32_t>(i), spelling_of);
      if (other >= 0)
        return bad_vocabulary(v, "tokens", fmt::format("tokens {} and {} are both {}", other, i, quoted(v.tokens[i])));
    }
  }
  return {};
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

Result<std::shared_ptr<const Tokenizer>> Tokenizer::create(const Vocabulary& v) {
  FOVEA_RETURN_IF_ERROR(check_shape(v));
  auto impl = std::make_unique<Impl>();
  std::vector<uint32_t> widths;
  std::vector<int32_t> byte_ids;
  FOVEA_RETURN_IF_ERROR(read_tokens(v, *impl, widths, byte_ids));
  SpellingIndex index(v.tokens.size());
  FOVEA_RETURN_IF_ERROR(fill(index, v));
  impl->pre = find_pre_tokenizer(v.pre);
  impl->merger = std::make_unique<PairMerger>(std::move(byte_ids), widths, v.merges.size());
  FOVEA_RETURN_IF_ERROR(MergeReader(v, index, widths, *impl->merger).read());
  if (impl->pre->whole_words_first) {
    const auto piece_of = [&impl](int32_t id) { return impl->piece(id); };
    impl->by_bytes = std::make_unique<SpellingIndex>(v.tokens.size());
    for (size_t i = 0; i < widths.size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      if (widths[i] > 0) impl->by_bytes->add(impl->piece(id), impl->by_bytes->hash(impl->piece(id)), id, piece_of);
    }
  }
  impl->bos = v.bos;
  impl->eos = v.eos;
  impl->add_bos = v.add_bos && v.bos >= 0;
  impl->add_eos = v.add_eos && v.eos >= 0;
  impl->ends.assign(v.tokens.size(), false);
  for (const int32_t id : {v.eos, v.eot, v.eom}) {
    if (id >= 0) impl->ends[static_cast<size_t>(id)] = true;
  }
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(impl)));
}

namespace {

// One call of encode().
class Encoder {
 public:
  Encoder(const Impl& impl, size_t text_bytes, std::vector<uint32_t>* offsets)
      : impl_(impl), cache_(text_bytes), offsets_(offsets) {
    ids_.reserve(text_bytes / 4 + 8);
    if (offsets_) offsets_->clear();
  }

  void token(int32_t id, size_t at) {
    ids_.push_back(id);
    if (offsets_) offsets_->push_back(static_cast<uint32_t>(at));
  }

  // `text` begins at byte `begin` of the whole.
  void plain(std::string_view text, size_t begin) {
    if (!impl_.pre->nfc || is_nfc(text)) return words(text, begin);
    const ComposedText composed = compose(text);
    const size_t before = offsets_ ? offsets_->size() : 0;
    words(composed.text, 0);
    if (!offsets_) return;
    auto part = composed.parts.begin();
    for (size_t i = before; i < offsets_->size(); ++i) {
      const size_t at = (*offsets_)[i];
      while (part + 1 != composed.parts.end() && part[1].at <= at) ++part;
      (*offsets_)[i] = static_cast<uint32_t>(begin + part->source + (part->changed ? 0 : at - part->at));
    }
  }

  std::vector<int32_t> take() { return std::move(ids_); }

 private:
  void words(std::string_view text, size_t begin) {
    const char *p = text.data(), *end = p + text.size();
    while (p < end) {
      const char* word_end = impl_.pre->word_end(p, end);
      const std::string_view word(p, static_cast<size_t>(word_end - p));
      const size_t before = ids_.size();
      if (word.size() > WordCache::kMaxBytes) {
        merge(word);
      } else {
        WordCache::Entry& known = cache_.at(word);
        if (known.n_ids > 0) {
          ids_.insert(ids_.end(), known.ids, known.ids + known.n_ids);
        } else {
          merge(word);
          const size_t n = ids_.size() - before;
          if (n <= WordCache::kMaxIds) {
            known.n_ids = static_cast<uint32_t>(n);
            std::copy(ids_.begin() + static_cast<std::ptrdiff_t>(before), ids_.end(), known.ids);
          }
        }
      }
      if (offsets_) {
        const auto at = static_cast<uint32_t>(begin + static_cast<size_t>(p - text.data()));
        impl_.merger->starts(word, ids_.data() + before, ids_.size() - before, at, *offsets_);
      }
      p = word_end;
    }
  }

  void merge(std::string_view word) {
    if (impl_.by_bytes) {
      const int32_t id =
          impl_.by_bytes->find(word, impl_.by_bytes->hash(word), [this](int32_t i) { return impl_.piece(i); });
      if (id >= 0) return ids_.push_back(id);
    }
    impl_.merger->merge(word, scratch_, ids_);
  }

  const Impl& impl_;
  WordCache cache_;
  PairMerger::Scratch scratch_;
  std::vector<int32_t> ids_;
  std::vector<uint32_t>* offsets_;
};

}  // namespace

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, const EncodeOptions& options,
                                               std::vector<uint32_t>* offsets) const {
  if (text.size() > kMaxTextBytes)
    return make_error(ErrorCode::kLimit, "the text is {} bytes long; {} can be tokenized at once", text.size(),
                      kMaxTextBytes);
  Encoder encoder(*impl_, text.size(), offsets);
  if (options.add_special && impl_->add_bos) encoder.token(impl_->bos, 0);
  for (size_t at = 0; at < text.size();) {
    const SpecialTokens::Match match = impl_->special.next(text, at, options.parse_special);
    encoder.plain(text.substr(at, match.begin - at), at);
    if (match.id >= 0) encoder.token(match.id, match.begin);
    at = match.end;
  }
  if (options.add_special && impl_->add_eos) encoder.token(impl_->eos, text.size());
  return encoder.take();
}

Result<std::string> Tokenizer::decode(std::span<const int32_t> ids, bool special) const {
  std::string out;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size()) {
      return make_error(ErrorCode::kUsage, "token {} of the list is {}; the vocabulary has tokens 0 to {}", i, ids[i],
                        vocab_size() - 1);
    }
    if (special || !impl_->is_hidden(ids[i])) out += impl_->piece(ids[i]);
  }
  return out;
}

std::string_view Tokenizer::piece(int32_t id) const {
  FOVEA_CHECK(id >= 0 && id < vocab_size(), "piece: token {} of {}", id, vocab_size());
  return impl_->piece(id);
}
int32_t Tokenizer::vocab_size() const { return static_cast<int32_t>(impl_->size()); }
bool Tokenizer::is_control(int32_t id) const { return id >= 0 && id < vocab_size() && impl_->is_hidden(id); }
bool Tokenizer::ends_text(int32_t id) const {
  return id >= 0 && id < vocab_size() && impl_->ends[static_cast<size_t>(id)];
}
int32_t Tokenizer::find(std::string_view spelling) const { return impl_->special.find(spelling); }
int32_t Tokenizer::bos() const { return impl_->bos; }
int32_t Tokenizer::eos() const { return impl_->eos; }

std::string StreamDecoder::push(int32_t id) {
  if (!tokenizer_.is_control(id)) held_ += tokenizer_.piece(id);
  const size_t whole = held_.size() - incomplete_tail(held_);
  std::string out = replace_invalid_utf8(std::string_view(held_).substr(0, whole));
  held_.erase(0, whole);
  return out;
}

std::string StreamDecoder::finish() {
  std::string out = replace_invalid_utf8(held_);
  held_.clear();
  return out;
}

}  // namespace fovea::tokenizers
