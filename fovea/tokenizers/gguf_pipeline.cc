// The four kinds of tokenizers that GGUF files name.
#include <algorithm>

#include "fovea/base/bytes.h"
#include "fovea/tokenizers/assemble.h"
#include "fovea/tokenizers/pretokenize.h"

namespace fovea::tokenizers {
namespace {

// `field`: of Vocabulary, as a file's reader spells it too.
Error bad_vocabulary(const Vocabulary& v, const char* field, std::string what) {
  return Error{ErrorCode::kData, v.name + ": " + what, field};
}

Status check_shape(const Vocabulary& v) {
  if (v.tokens.empty() || v.tokens.size() > INT32_MAX / 2)
    return bad_vocabulary(v, "tokens", fmt::format("a vocabulary of {} tokens", v.tokens.size()));
  if (!v.types.empty() && v.types.size() != v.tokens.size()) {
    return bad_vocabulary(v, "token_type",
                          fmt::format("{} token types for {} tokens", v.types.size(), v.tokens.size()));
  }
  if (!v.scores.empty() && v.scores.size() != v.tokens.size())
    return bad_vocabulary(v, "scores", fmt::format("{} scores for {} tokens", v.scores.size(), v.tokens.size()));
  const std::pair<const char*, int32_t> ids[] = {{"bos", v.bos},
                                                 {"eos", v.eos},
                                                 {"eot", v.eot},
                                                 {"eom", v.eom},
                                                 {"unknown", v.unknown},
                                                 {"padding", v.padding},
                                                 {"separator", v.separator}};
  for (const auto& [name, id] : ids) {
    if (id >= -1 && id < static_cast<int64_t>(v.tokens.size())) continue;
    return bad_vocabulary(v, "tokens",
                          fmt::format("the {} token is {}; the vocabulary has {} tokens", name, id, v.tokens.size()));
  }
  return {};
}

Status byte_pairs(const Vocabulary& v, Pipeline& p) {
  const PreTokenizer* pre = find_pre_tokenizer(v.pre);
  if (!pre) {
    std::string known;
    for (const PreTokenizer& row : pre_tokenizers())
      known += fmt::format("{}{}", known.empty() ? "" : ", ", row.names[0]);
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: the pre-tokenizer {} is not supported; these are: {}", v.name, quote(v.pre), known),
                 "pre"};
  }
  if (pre->nfc) p.normalizers.push_back(make_unicode_form(UnicodeForm::kNfc));
  for (const std::string_view rule : pre->rules) {
    FOVEA_ASSIGN_OR_RETURN(SplitStepPtr step, make_rule(rule));
    p.steps.push_back(std::move(step));
  }
  BpeSource source;
  source.byte_level = true;
  source.whole_words_first = pre->whole_words_first;
  source.merges.reserve(v.merges.size());
  for (size_t i = 0; i < v.merges.size(); ++i) {
    const std::string_view merge = v.merges[i];
    const size_t space = merge.find(' ', 1);
    if (space == merge.npos || space + 1 == merge.size()) {
      return bad_vocabulary(v, "merges",
                            fmt::format("merge {} {} is not two tokens with a space between", i, quote(merge)));
    }
    source.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  FOVEA_RETURN_IF_ERROR(set_bpe(p, v.name, source));
  p.decoder.tokens.push_back(make_byte_level_decoder());
  return {};
}

// A space is U+2581, and one comes before the text, or what is left of it behind a special token.
void write_spaces(const Vocabulary& v, Pipeline& p) {
  if (v.remove_extra_whitespaces) p.normalizers.push_back(make_collapse_spaces());
  if (v.add_space_prefix) p.normalizers.push_back(make_prepend(kSpaceMark, false));
  p.normalizers.push_back(make_replace(" ", kSpaceMark));
  p.decoder.tokens.push_back(make_replace_decoder(kSpaceMark, " "));
  p.decoder.tokens.push_back(make_byte_fallback_decoder());
  if (!v.add_space_prefix && !v.remove_extra_whitespaces) return;
  p.decoder.strip = " ";
  p.decoder.strip_start = v.remove_extra_whitespaces ? SIZE_MAX : 1;
  p.decoder.whole.push_back(make_strip_decoder(" ", p.decoder.strip_start, 0));
}

Fallback fallback_of(const Vocabulary& v, const Pipeline& p) {
  Fallback f;
  if (!find_byte_tokens(p, f)) f.bytes.fill(-1);
  f.unknown = v.unknown;
  f.fuse = true;
  return f;
}

Status sentence_piece(const Vocabulary& v, Pipeline& p) {
  if (v.scores.empty()) return bad_vocabulary(v, "scores", "no scores of its tokens");
  write_spaces(v, p);
  return set_scored_bpe(p, v.name, v.scores, fallback_of(v, p));
}

Status unigram(const Vocabulary& v, Pipeline& p) {
  if (v.scores.empty()) return bad_vocabulary(v, "scores", "no scores of its tokens");
  auto map = Charsmap::create(v.charsmap);
  if (!map) return bad_vocabulary(v, "precompiled_charsmap", map.error().message);
  if (!v.charsmap.empty()) p.normalizers.push_back(make_charsmap(std::move(*map), false));
  write_spaces(v, p);
  double lowest = 0;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (p.types[i] == TokenType::kNormal) lowest = std::min(lowest, static_cast<double>(v.scores[i]));
  }
  return set_unigram(p, v.name, {v.scores.begin(), v.scores.end()}, lowest, fallback_of(v, p));
}

// In the file words begin with U+2581, and what goes on has no mark: published it is the other way round.
Status word_piece(const Vocabulary& v, Pipeline& p) {
  const std::string inner = "##";
  bool has_capitals = false;
  for (size_t i = 0; i < p.spellings.size(); ++i) {
    if (!is_text(p.types[i])) continue;
    std::string& s = p.spellings[i];
    if (s.starts_with(kSpaceMark)) {
      s.erase(0, kSpaceMark.size());
      // Not of [MASK] and the like, which files of old do not mark as control tokens.
      has_capitals = has_capitals || (!s.starts_with('[') &&
                                      std::any_of(s.begin(), s.end(), [](char c) { return c >= 'A' && c <= 'Z'; }));
    } else if (!s.starts_with('[')) {
      s.insert(0, inner);
    }
  }
  // The file does not say whether its model reads capitals; one that has no token with any does not.
  p.normalizers.push_back(make_bert({.strip_accents = !has_capitals, .lowercase = !has_capitals}));
  p.steps.push_back(make_whitespace_split());
  p.steps.push_back(make_punctuation(Behaviour::kIsolated));
  p.decoder.tokens.push_back(make_word_piece_decoder(inner, true));
  return set_word_piece(p, inner, v.unknown, 100);
}

struct KindReader {
  std::string_view name;
  Status (*read)(const Vocabulary&, Pipeline&);
};
constexpr KindReader kReaders[] = {
    {"gpt2", byte_pairs}, {"llama", sentence_piece}, {"bert", word_piece}, {"t5", unigram}};

}  // namespace

Result<Pipeline> gguf_pipeline(const Vocabulary& v) {
  const auto kind =
      std::find_if(std::begin(kReaders), std::end(kReaders), [&](const KindReader& k) { return k.name == v.kind; });
  if (kind == std::end(kReaders)) {
    return Error{
        ErrorCode::kUnsupported,
        fmt::format("{}: a tokenizer of kind {} is not supported; \"gpt2\", \"llama\", \"bert\" and \"t5\" are", v.name,
                    quote(v.kind)),
        "model"};
  }
  FOVEA_RETURN_IF_ERROR(check_shape(v));
  Pipeline p;
  FOVEA_RETURN_IF_ERROR(set_tokens(p, v.name, {v.tokens.begin(), v.tokens.end()}, v.types));
  FOVEA_RETURN_IF_ERROR(set_special(p, v.name));
  FOVEA_RETURN_IF_ERROR(kind->read(v, p));
  p.bos = v.bos;
  p.eos = v.eos;
  p.unknown = v.unknown;
  p.padding = v.padding;
  if (v.add_bos && v.bos >= 0) p.prefix.push_back(v.bos);
  if (v.kind == "bert" && v.separator >= 0) {
    p.suffix.push_back(v.separator);
  } else if (v.add_eos && v.eos >= 0) {
    p.suffix.push_back(v.eos);
  }
  const int32_t eot = v.eot >= 0 ? v.eot : find_end_of_turn(p, v.eos);
  for (const int32_t id : {v.eos, eot, v.eom}) {
    if (id >= 0) p.ends.push_back(id);
  }
  return p;
}

}  // namespace fovea::tokenizers
