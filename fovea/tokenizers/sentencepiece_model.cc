#include "fovea/tokenizers/sentencepiece_model.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "fovea/base/bytes.h"
#include "fovea/tokenizers/assemble.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

// The fields of one message, in order. A field is a number, or bytes (a string, a message).
class Message {
 public:
  struct Field {
    uint32_t number = 0;
    uint64_t value = 0;      // of a varint or a fixed one
    std::string_view bytes;  // of a length-delimited one
    size_t at = 0;           // in the file, for messages
    bool is_bytes = false;
  };
  Message(std::string_view bytes, size_t at, const std::string& name) : bytes_(bytes), at_(at), name_(name) {}

  bool done() const { return p_ == bytes_.size(); }
  Result<Field> next() {
    Field f;
    f.at = at_ + p_;
    FOVEA_ASSIGN_OR_RETURN(const uint64_t tag, varint());
    f.number = static_cast<uint32_t>(tag >> 3);
    if (tag >> 32 != 0 || f.number == 0) return wrong("no field of a message");
    switch (tag & 7) {
      case 0: {
        FOVEA_ASSIGN_OR_RETURN(f.value, varint());
        return f;
      }
      case 1:
      case 5: {
        const size_t n = (tag & 7) == 1 ? 8 : 4;
        if (bytes_.size() - p_ < n) return wrong("a number that ends behind its message");
        for (size_t i = 0; i < n; ++i) f.value |= uint64_t{static_cast<unsigned char>(bytes_[p_ + i])} << 8 * i;
        p_ += n;
        return f;
      }
      case 2: {
        FOVEA_ASSIGN_OR_RETURN(const uint64_t n, varint());
        if (n > bytes_.size() - p_) return wrong("a field that ends behind its message");
        f.is_bytes = true;
        f.at = at_ + p_;
        f.bytes = bytes_.substr(p_, n);
        p_ += n;
        return f;
      }
      default: return wrong("a field of an unknown kind");
    }
  }
  Error wrong(std::string_view what) const {
    return Error{ErrorCode::kData, fmt::format("{}: {} at byte {}", name_, what, at_ + p_),
                 fmt::format("byte {}", at_ + p_)};
  }

 private:
  Result<uint64_t> varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (p_ == bytes_.size()) return wrong("a number that ends behind its message");
      const auto byte = static_cast<unsigned char>(bytes_[p_++]);
      value |= uint64_t{byte & 127u} << shift;
      if (byte < 128) return value;
    }
    return wrong("a number of more than ten bytes");
  }

  std::string_view bytes_;
  size_t at_, p_ = 0;
  const std::string& name_;
};

// Calls take(field) for each field of a message.
template <typename Take>
Status each_field(std::string_view bytes, size_t at, const std::string& name, const Take& take) {
  Message message(bytes, at, name);
  while (!message.done()) {
    FOVEA_ASSIGN_OR_RETURN(const Message::Field f, message.next());
    FOVEA_RETURN_IF_ERROR(take(f));
  }
  return {};
}

Error wrong_at(const std::string& name, size_t at, const std::string& what) {
  return Error{ErrorCode::kData, fmt::format("{}: {} at byte {}", name, what, at), fmt::format("byte {}", at)};
}

Status read_piece(const Message::Field& whole, const std::string& name, SentencePieceModel& m) {
  std::string_view piece;
  float score = 0;
  uint64_t type = 1;
  FOVEA_RETURN_IF_ERROR(each_field(whole.bytes, whole.at, name, [&](const Message::Field& f) -> Status {
    if (f.number == 1) piece = f.bytes;
    if (f.number == 2) score = std::bit_cast<float>(static_cast<uint32_t>(f.value));
    if (f.number == 3) type = f.value;
    return {};
  }));
  if (type < 1 || type > 6) return wrong_at(name, whole.at, fmt::format("a piece of type {}; 1 to 6 are known", type));
  m.pieces.push_back(piece);
  m.scores.push_back(score);
  m.types.push_back(static_cast<TokenType>(type));  // numbered alike
  return {};
}

Status read_trainer(const Message::Field& whole, const std::string& name, SentencePieceModel& m) {
  return each_field(whole.bytes, whole.at, name, [&](const Message::Field& f) -> Status {
    const auto id = static_cast<int32_t>(static_cast<uint32_t>(f.value));
    switch (f.number) {
      case 3:
        if (f.value != 1 && f.value != 2) {
          return Error{ErrorCode::kUnsupported,
                       fmt::format("{}: a model of type {} at byte {}; 1 (unigram) and 2 (bpe) are supported", name,
                                   f.value, f.at),
                       "trainer_spec.model_type"};
        }
        m.kind = static_cast<SentencePieceModel::Kind>(f.value);
        break;
      case 24: m.spaces_behind = f.value != 0; break;
      case 35: m.byte_fallback = f.value != 0; break;
      case 40: m.unknown = id; break;
      case 41: m.bos = id; break;
      case 42: m.eos = id; break;
      case 43: m.padding = id; break;
      default: break;  // how it was trained
    }
    return {};
  });
}

Status read_normalizer(const Message::Field& whole, const std::string& name, SentencePieceModel& m) {
  return each_field(whole.bytes, whole.at, name, [&](const Message::Field& f) -> Status {
    if (f.number == 2) m.charsmap = f.bytes;
    if (f.number == 3) m.add_space_prefix = f.value != 0;
    if (f.number == 4) m.remove_extra_whitespaces = f.value != 0;
    if (f.number == 5) m.escape_whitespaces = f.value != 0;
    return {};
  });
}

}  // namespace

Result<SentencePieceModel> parse_sentencepiece(std::string_view bytes, const std::string& name) {
  SentencePieceModel m;
  FOVEA_RETURN_IF_ERROR(each_field(bytes, 0, name, [&](const Message::Field& f) -> Status {
    if (f.number > 5 && f.number < 200) return wrong_at(name, f.at, fmt::format("the unknown field {}", f.number));
    if (f.number <= 5 && !f.is_bytes)
      return wrong_at(name, f.at, fmt::format("the field {}, which is no message", f.number));
    if (f.number == 1) return read_piece(f, name, m);
    if (f.number == 2) return read_trainer(f, name, m);
    if (f.number == 3) return read_normalizer(f, name, m);
    return {};  // tests of its own, and what takes marks out of answers
  }));
  if (m.pieces.empty()) return make_error(ErrorCode::kData, "{}: it has no pieces", name);
  const auto n = static_cast<int64_t>(m.pieces.size());
  for (int32_t* id : {&m.unknown, &m.bos, &m.eos, &m.padding}) {
    if (*id < -1 || *id >= n)
      return make_error(ErrorCode::kData, "{}: a special token is {}; there are {} pieces", name, *id, n);
  }
  return m;
}

Result<Pipeline> sentencepiece_pipeline(const SentencePieceModel& m, const std::string& name, bool prefix_always) {
  Pipeline p;
  std::vector<TokenType> types = m.types;
  FOVEA_RETURN_IF_ERROR(set_tokens(p, name, {m.pieces.begin(), m.pieces.end()}, std::move(types)));
  const bool bpe = m.kind == SentencePieceModel::Kind::kBpe;
  // Pairs are made between user-defined pieces, which are cut out first: the model writes spaces as marks, texts have
  // spaces. A unigram model weighs them with the others.
  const std::vector<std::string> marked = p.spellings;
  for (size_t i = 0; i < p.spellings.size(); ++i) {
    if (p.types[i] != TokenType::kUserDefined) continue;
    std::string& s = p.spellings[i];
    if (!bpe) s.clear();
    for (size_t at = s.find(kSpaceMark); at != s.npos; at = s.find(kSpaceMark, at + 1))
      s.replace(at, kSpaceMark.size(), " ");
  }
  FOVEA_RETURN_IF_ERROR(set_special(p, name));
  p.spellings = marked;
  p.user_defined_in_model = !bpe;
  auto map = Charsmap::create(m.charsmap);
  if (!map)
    return Error{map.error().code, fmt::format("{}: {}", name, map.error().message),
                 "normalizer_spec.precompiled_charsmap"};
  if (!m.charsmap.empty()) p.normalizers.push_back(make_charsmap(std::move(*map), false));
  if (m.remove_extra_whitespaces) p.normalizers.push_back(make_collapse_spaces());
  if (m.add_space_prefix && m.spaces_behind) {
    return Error{ErrorCode::kUnsupported, fmt::format("{}: marks of spaces behind words are not supported", name),
                 "trainer_spec.treat_whitespace_as_suffix"};
  }
  const std::string space = m.escape_whitespaces ? kSpaceMark : " ";
  if (m.add_space_prefix) p.normalizers.push_back(make_prepend(space, !prefix_always));
  if (m.escape_whitespaces) p.normalizers.push_back(make_replace(" ", kSpaceMark));
  p.decoder.tokens.push_back(make_replace_decoder(kSpaceMark, " "));
  p.decoder.tokens.push_back(make_byte_fallback_decoder());
  if (m.add_space_prefix || m.remove_extra_whitespaces) {
    p.decoder.whole.push_back(make_strip_decoder(" ", m.remove_extra_whitespaces ? SIZE_MAX : 1, 0));
    p.decoder.strip = " ";
    p.decoder.strip_start = m.remove_extra_whitespaces ? SIZE_MAX : 1;
  }
  Fallback fallback;
  if (m.byte_fallback && !find_byte_tokens(p, fallback))
    return make_error(ErrorCode::kData, "{}: it falls back to bytes, and has not a token for each", name);
  fallback.unknown = p.unknown = m.unknown;
  fallback.fuse = true;
  p.bos = m.bos;
  p.eos = m.eos;
  p.padding = m.padding;
  if (m.eos >= 0) p.ends.push_back(m.eos);
  if (bpe) {
    FOVEA_RETURN_IF_ERROR(set_scored_bpe(p, name, m.scores, fallback));
    return p;
  }
  double lowest = 0;
  bool any = false;
  for (size_t i = 0; i < m.types.size(); ++i) {
    if (m.types[i] != TokenType::kNormal) continue;
    lowest = any ? std::min<double>(lowest, m.scores[i]) : m.scores[i];
    any = true;
  }
  std::vector<double> scores(m.scores.begin(), m.scores.end());
  for (size_t i = 0; i < scores.size(); ++i) {  // user-defined pieces win against all others, of them the longer ones
    if (m.types[i] == TokenType::kUserDefined)
      scores[i] = static_cast<float>(0.1 * (static_cast<double>(m.pieces[i].size()) - 1));
  }
  FOVEA_RETURN_IF_ERROR(set_unigram(p, name, std::move(scores), lowest, fallback));
  return p;
}

}  // namespace fovea::tokenizers
