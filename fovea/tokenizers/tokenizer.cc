#include "fovea/tokenizers/tokenizer.h"

#include <algorithm>
#include <array>
#include <list>

#include "fovea/base/bytes.h"
#include "fovea/base/check.h"
#include "fovea/tokenizers/pipeline.h"
#include "fovea/tokenizers/utf8.h"
#include "fovea/tokenizers/word_cache.h"

namespace fovea::tokenizers {

struct Tokenizer::Impl {
  Pipeline p;
  std::string pieces;                 // the text of all tokens, one after the other
  std::vector<uint32_t> piece_begin;  // and where each starts; one more for the end
  std::vector<bool> ends;
  bool by_place = false;  // what a token becomes depends on its neighbours

  size_t size() const { return p.types.size(); }
  std::string_view piece(int32_t id) const {
    const auto i = static_cast<size_t>(id);
    return std::string_view(pieces).substr(piece_begin[i], piece_begin[i + 1] - piece_begin[i]);
  }
  bool is_hidden(int32_t id) const {
    const TokenType type = p.types[static_cast<size_t>(id)];
    return type == TokenType::kControl || type == TokenType::kUnknown || type == TokenType::kUnused;
  }
  std::string text_of(int32_t id, Place place) const {
    if (is_hidden(id)) return p.spellings[static_cast<size_t>(id)];
    return p.decoder.text_of(p.spellings[static_cast<size_t>(id)], place);
  }
};

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

Result<std::shared_ptr<const Tokenizer>> Tokenizer::create(const Vocabulary& v) {
  FOVEA_ASSIGN_OR_RETURN(Pipeline p, v.kind == "files" ? files_pipeline(v) : gguf_pipeline(v));
  auto impl = std::make_unique<Impl>();
  impl->p = std::move(p);
  const Decoder& decoder = impl->p.decoder;
  impl->by_place =
      decoder.looks_at_first() || decoder.looks_at_last() || !decoder.whole.empty() || decoder.drops_repeats;
  impl->piece_begin.push_back(0);
  for (size_t i = 0; i < impl->size(); ++i) {
    impl->pieces += impl->text_of(static_cast<int32_t>(i), {});
    impl->piece_begin.push_back(static_cast<uint32_t>(impl->pieces.size()));
    if (impl->pieces.size() > UINT32_MAX / 2)
      return make_error(ErrorCode::kLimit, "{}: {} bytes of tokens", v.name, impl->pieces.size());
  }
  if (!impl->by_place) std::vector<std::string>().swap(impl->p.spellings);  // the pieces tell all
  impl->ends.assign(impl->size(), false);
  for (const int32_t id : impl->p.ends) impl->ends[static_cast<size_t>(id)] = true;
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(impl)));
}

namespace {

using Impl = Tokenizer::Impl;

// One call of encode().
class Encoder final : public Flow {
 public:
  Encoder(const Impl& impl, size_t text_bytes, const EncodeOptions& options, std::vector<uint32_t>* offsets)
      : p_(impl.p), options_(options), scratch_(p_.model->make_scratch()), cache_(text_bytes), offsets_(offsets) {
    ids_.reserve(text_bytes / 4 + 8);
    if (offsets_) offsets_->clear();
    tracked = offsets_ != nullptr;
  }

  void token(int32_t id, size_t at) {
    ids_.push_back(id);
    if (offsets_) offsets_->push_back(static_cast<uint32_t>(at));
  }
  void text(std::string_view text) {
    each_part(
        p_.special, text,
        [&](size_t begin, size_t end) {
          const Frame frame{nullptr, nullptr, begin};
          normalize({text.substr(begin, end - begin), &frame, 0, begin == 0 && !options_.continues}, 0);
        },
        [](size_t at) { return at; });
  }

  void run(size_t step, const Piece& piece) override {
    if (failed || piece.text.empty()) return;
    if (step < p_.steps.size()) return p_.steps[step]->split(piece, *this, step + 1);
    word(piece);
  }
  void fail(Error error) override {
    if (!failed) error_ = std::move(error);
    failed = true;
  }

  Result<std::vector<int32_t>> take() {
    if (failed) return std::move(error_);
    return std::move(ids_);
  }

 private:
  // Special tokens where they stand, and plain(begin, end) for what is between; origin() leads to the whole text.
  template <typename Plain, typename Origin>
  void each_part(const SpecialTokens& special, std::string_view text, const Plain& plain, const Origin& origin) {
    for (size_t at = 0, from = 0; from < text.size() && !failed;) {
      const SpecialTokens::Match match = special.next(text, from, at, options_.parse_special);
      if (match.begin > at) plain(at, match.begin);
      if (match.id >= 0) token(match.id, offsets_ ? origin(match.begin) : 0);
      at = match.end;
      from = match.next;
    }
  }

  void normalize(const Piece& piece, size_t step) {
    if (step == p_.normalizers.size()) {
      if (p_.special_after.empty()) return run(0, piece);
      return each_part(
          p_.special_after, piece.text, [&](size_t begin, size_t end) { run(0, piece.part(begin, end)); },
          [&](size_t at) { return piece.frame->source_of(piece.at + at); });
    }
    TextEdit edit(piece.text, tracked);
    if (Status status = p_.normalizers[step]->apply(edit, piece.first); !status) return fail(std::move(status.error()));
    if (!edit.changed()) return normalize(piece, step + 1);
    const Frame frame{&edit, piece.frame, piece.at};
    normalize({edit.text(), &frame, 0, piece.first}, step + 1);
  }

  void word(const Piece& piece) {
    if (piece.text.size() > WordCache::kMaxBytes) {
      tokens_.clear();
      p_.model->encode(piece.text, *scratch_, tokens_);
      return add(piece, tokens_.ids.data(), tokens_.starts.data(), tokens_.ids.size());
    }
    WordCache::Entry& known = cache_.at(piece.text);
    if (known.n_ids == 0) {
      tokens_.clear();
      p_.model->encode(piece.text, *scratch_, tokens_);
      const size_t n = tokens_.ids.size();
      if (n > WordCache::kMaxIds) return add(piece, tokens_.ids.data(), tokens_.starts.data(), n);
      known.n_ids = static_cast<uint8_t>(n);
      std::copy(tokens_.ids.begin(), tokens_.ids.end(), known.ids);
      std::copy(tokens_.starts.begin(), tokens_.starts.end(), known.starts);
    }
    add(piece, known.ids, known.starts, known.n_ids);
  }

  template <typename Start>
  void add(const Piece& piece, const int32_t* ids, const Start* starts, size_t n) {
    ids_.insert(ids_.end(), ids, ids + n);
    if (!offsets_) return;
    for (size_t i = 0; i < n; ++i)
      offsets_->push_back(static_cast<uint32_t>(piece.frame->source_of(piece.at + starts[i])));
  }

  const Pipeline& p_;
  const EncodeOptions& options_;
  std::unique_ptr<Model::Scratch> scratch_;
  WordCache cache_;
  WordTokens tokens_;
  std::vector<int32_t> ids_;
  std::vector<uint32_t>* offsets_;
  Error error_;
};

}  // namespace

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, const EncodeOptions& options,
                                               std::vector<uint32_t>* offsets) const {
  if (text.size() > kMaxTextBytes)
    return make_error(ErrorCode::kLimit, "the text is {} bytes long; {} can be tokenized at once", text.size(),
                      kMaxTextBytes);
  Encoder encoder(*impl_, text.size(), options, offsets);
  if (options.add_special) {
    for (const int32_t id : impl_->p.prefix) encoder.token(id, 0);
  }
  encoder.text(text);
  if (options.add_special) {
    for (const int32_t id : impl_->p.suffix) encoder.token(id, text.size());
  }
  return encoder.take();
}

std::vector<SpecialAt> Tokenizer::find_special(std::string_view text) const {
  const SpecialTokens& all = impl_->p.special_all.empty() ? impl_->p.special : impl_->p.special_all;
  std::vector<SpecialAt> out;
  for (size_t at = 0, from = 0; from < text.size();) {
    const SpecialTokens::Match match = all.next(text, from, at, true);
    if (match.id >= 0) {
      // One in the white space behind another takes it back.
      if (!out.empty()) out.back().end = std::min(out.back().end, match.begin);
      out.push_back({match.begin, match.end, match.id});
    }
    at = match.end;
    from = match.next;
  }
  return out;
}

Result<std::string> Tokenizer::decode(std::span<const int32_t> ids, bool special) const {
  std::string out;
  std::vector<int32_t> shown;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size()) {
      return make_error(ErrorCode::kUsage, "token {} of the list is {}; the vocabulary has tokens 0 to {}", i, ids[i],
                        vocab_size() - 1);
    }
    if (!special && impl_->is_hidden(ids[i])) continue;
    if (!impl_->by_place) {
      out += impl_->piece(ids[i]);
    } else if (!impl_->p.decoder.drops_repeats || shown.empty() || shown.back() != ids[i]) {
      shown.push_back(ids[i]);
    }
  }
  for (size_t i = 0; i < shown.size(); ++i) {
    const bool edge = i == 0 || i + 1 == shown.size();
    out += edge ? impl_->text_of(shown[i], {i == 0, i + 1 == shown.size()}) : std::string(impl_->piece(shown[i]));
  }
  for (const TokenStepPtr& step : impl_->p.decoder.whole) step->apply(out, {});
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
bool Tokenizer::has_end() const { return !impl_->p.ends.empty(); }
int32_t Tokenizer::find(std::string_view spelling) const {
  return (impl_->p.special_all.empty() ? impl_->p.special : impl_->p.special_all).find(spelling);
}
int32_t Tokenizer::bos() const { return impl_->p.bos; }
int32_t Tokenizer::eos() const { return impl_->p.eos; }
int32_t Tokenizer::unknown() const { return impl_->p.unknown; }
int32_t Tokenizer::padding() const { return impl_->p.padding; }

void StreamDecoder::add(int32_t id, bool last) {
  const Tokenizer::Impl& impl = *tokenizer_.impl_;
  std::string text = first_ || last ? impl.text_of(id, {first_, last}) : std::string(impl.piece(id));
  first_ = false;
  const Decoder& decoder = impl.p.decoder;
  for (const TokenStepPtr& step : decoder.whole) {
    if (&step != &decoder.whole.front() || decoder.strip.empty()) step->apply(text, {});
  }
  const std::string& strip = decoder.strip;
  while (stripped_ < decoder.strip_start && !text.empty() && text.starts_with(strip)) {
    text.erase(0, strip.size());
    ++stripped_;
  }
  if (!text.empty()) stripped_ = SIZE_MAX;
  held_ += text;
}

std::string StreamDecoder::take(size_t kept) {
  const size_t ready = held_.size() - std::min(kept, held_.size());
  const size_t whole = ready - incomplete_tail(std::string_view(held_).substr(0, ready));
  std::string out = replace_invalid_utf8(std::string_view(held_).substr(0, whole));
  held_.erase(0, whole);
  return out;
}

std::string StreamDecoder::push(int32_t id) {
  const Tokenizer::Impl& impl = *tokenizer_.impl_;
  if (tokenizer_.is_control(id)) return take(0);
  if (!impl.by_place) {
    held_ += impl.piece(id);
    return take(0);
  }
  const Decoder& decoder = impl.p.decoder;
  if (decoder.drops_repeats && id == before_) return take(0);
  before_ = id;
  if (decoder.looks_at_last()) std::swap(id, delayed_);
  if (id >= 0) add(id, false);
  // What is taken off the end of a text may yet stand there.
  size_t kept = 0;
  const std::string& strip = decoder.strip;
  for (size_t i = 0; i < decoder.strip_stop && held_.size() >= kept + strip.size(); ++i) {
    if (held_.compare(held_.size() - kept - strip.size(), strip.size(), strip) != 0) break;
    kept += strip.size();
  }
  return take(kept);
}

std::string StreamDecoder::finish() {
  const Tokenizer::Impl& impl = *tokenizer_.impl_;
  if (delayed_ >= 0) add(std::exchange(delayed_, -1), true);
  const std::string& strip = impl.p.decoder.strip;
  for (size_t i = 0; i < impl.p.decoder.strip_stop && held_.ends_with(strip); ++i)
    held_.resize(held_.size() - strip.size());
  std::string out = replace_invalid_utf8(held_);
  held_.clear();
  return out;
}

}  // namespace fovea::tokenizers
