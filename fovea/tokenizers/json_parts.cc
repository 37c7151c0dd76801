#include "fovea/tokenizers/json_parts.h"

#include "fovea/base/bytes.h"
#include "fovea/tokenizers/assemble.h"
#include "fovea/tokenizers/pretokenize.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

// The message of an error behind the place that it is about.
Error at(const JsonFields& fields, const char* key, const Error& error) {
  return Error{error.code, fmt::format("{}: {}: {}", fields.file(), fields.path(key), error.message), fields.path(key)};
}

Error unknown_type(const JsonFields& fields, std::string_view type) {
  return Error{ErrorCode::kUnsupported,
               fmt::format("{}: {} is {}, which is not known", fields.file(), fields.path("type"), quote(type)),
               fields.path("type")};
}

// {"String": "x"} or {"Regex": "x"}; of old, a string alone.
struct Pattern {
  std::string text;
  bool regex = false;
};
Result<Pattern> read_pattern(JsonFields& fields, const char* key) {
  const Json* value = fields.find(key);
  if (!value) return fields.unsupported(key, "is missing");
  if (value->is_string()) return Pattern{value->get<std::string>(), false};
  FOVEA_ASSIGN_OR_RETURN(JsonFields inner, JsonFields::of(*value, fields.file(), fields.path(key)));
  const bool regex = inner.find("Regex") != nullptr;
  FOVEA_ASSIGN_OR_RETURN(std::string text, inner.text(regex ? "Regex" : "String"));
  FOVEA_RETURN_IF_ERROR(inner.finish());
  return Pattern{std::move(text), regex};
}
Result<Regex> read_regex(const JsonFields& fields, const char* key, const std::string& expression) {
  auto regex = Regex::create(expression);
  if (!regex) return at(fields, key, regex.error());
  return std::move(*regex);
}

Result<Behaviour> read_behaviour(JsonFields& fields, const char* otherwise) {
  FOVEA_ASSIGN_OR_RETURN(const std::string name, fields.text("behavior", otherwise));
  constexpr std::pair<std::string_view, Behaviour> kAll[] = {{"Removed", Behaviour::kRemoved},
                                                             {"Isolated", Behaviour::kIsolated},
                                                             {"MergedWithPrevious", Behaviour::kMergedWithPrevious},
                                                             {"MergedWithNext", Behaviour::kMergedWithNext},
                                                             {"Contiguous", Behaviour::kContiguous}};
  for (const auto& [known, behaviour] : kAll) {
    if (name == known) return behaviour;
  }
  return fields.unsupported("behavior", fmt::format("is {}, which is not known", quote(name)));
}

// One character.
Result<std::string> read_character(JsonFields& fields, const char* key, std::string_view otherwise) {
  FOVEA_ASSIGN_OR_RETURN(std::string c, fields.text(key, otherwise));
  if (code_point_at(c.data(), c.data() + c.size()).bytes != c.size() || c.empty())
    return fields.wrong(key, "one character", Json(c));
  return c;
}

Result<Prefix> read_prefix(JsonFields& fields) {
  const bool declared = fields.find("prepend_scheme") != nullptr;
  FOVEA_ASSIGN_OR_RETURN(const bool space, fields.flag("add_prefix_space", true));
  FOVEA_ASSIGN_OR_RETURN(const std::string name, fields.text("prepend_scheme", space ? "always" : "never"));
  fields.skip("str_rep");  // of old files: the same as "replacement"
  Prefix prefix;
  if (name == "always") {
    prefix = Prefix::kAlways;
  } else if (name == "first") {
    prefix = Prefix::kFirst;
  } else if (name == "never") {
    prefix = Prefix::kNever;
  } else {
    return fields.unsupported("prepend_scheme", fmt::format("is {}, which is not known", quote(name)));
  }
  if (declared && fields.find("add_prefix_space") && !space && prefix != Prefix::kNever)
    return fields.wrong("prepend_scheme", "\"never\" where add_prefix_space is false", Json(name));
  return prefix;
}

// Calls each(element, path) for the elements of a Sequence.
template <typename Each>
Status each_of(JsonFields& fields, const char* key, const Each& each) {
  FOVEA_ASSIGN_OR_RETURN(const Json* list, fields.list(key));
  FOVEA_RETURN_IF_ERROR(fields.finish());
  for (size_t i = 0; i < list->size(); ++i) {
    FOVEA_RETURN_IF_ERROR(each((*list)[i], fmt::format("{}[{}]", fields.path(key), i)));
  }
  return {};
}

// A charsmap is base64 in the file.
Result<std::string> read_base64(JsonFields& fields, const char* key) {
  const Json* value = fields.find(key);
  if (!value) return std::string();
  FOVEA_ASSIGN_OR_RETURN(const std::string text, fields.text(key));
  std::string out;
  uint32_t bits = 0;
  int n_bits = 0;
  for (const char c : text) {
    const int v = c >= 'A' && c <= 'Z'   ? c - 'A'
                  : c >= 'a' && c <= 'z' ? c - 'a' + 26
                  : c >= '0' && c <= '9' ? c - '0' + 52
                  : c == '+'             ? 62
                  : c == '/'             ? 63
                                         : -1;
    if (c == '=' || c == '\n') continue;
    if (v < 0) return fields.unsupported(key, "is not base64");
    bits = bits << 6 | static_cast<uint32_t>(v);
    n_bits += 6;
    if (n_bits >= 8) out += static_cast<char>(bits >> (n_bits -= 8) & 255);
  }
  return out;
}

}  // namespace

bool has_step(const Json& value, std::string_view type) {
  if (!value.is_object()) return false;
  if (const auto it = value.find("type"); it != value.end() && it->is_string() && *it == type) return true;
  for (const char* key : {"normalizers", "pretokenizers"}) {
    const auto it = value.find(key);
    if (it == value.end() || !it->is_array()) continue;
    for (const Json& element : *it) {
      if (has_step(element, type)) return true;
    }
  }
  return false;
}

Status read_normalizer(const Json& value, const std::string& file, const std::string& path,
                       std::vector<NormalizerPtr>& out, bool& makes_letters) {
  if (value.is_null()) return {};
  FOVEA_ASSIGN_OR_RETURN(JsonFields f, JsonFields::of(value, file, path));
  FOVEA_ASSIGN_OR_RETURN(const std::string type, f.text("type"));
  if (type == "Sequence") {
    return each_of(f, "normalizers", [&](const Json& element, const std::string& at) {
      return read_normalizer(element, file, at, out, makes_letters);
    });
  }
  constexpr std::pair<std::string_view, UnicodeForm> kForms[] = {{"NFC", UnicodeForm::kNfc},
                                                                 {"NFD", UnicodeForm::kNfd},
                                                                 {"NFKC", UnicodeForm::kNfkc},
                                                                 {"NFKD", UnicodeForm::kNfkd}};
  NormalizerPtr step;
  for (const auto& [name, form] : kForms) {
    if (type == name) step = make_unicode_form(form);
  }
  if (step) {
  } else if (type == "Lowercase") {
    step = make_lowercase();
  } else if (type == "Nmt") {
    step = make_nmt();
  } else if (type == "StripAccents") {
    step = make_strip_accents();
  } else if (type == "Strip" || type == "StripNormalizer") {
    FOVEA_ASSIGN_OR_RETURN(const bool left, f.flag("strip_left", true));
    FOVEA_ASSIGN_OR_RETURN(const bool right, f.flag("strip_right", true));
    step = make_strip(left, right);
  } else if (type == "Prepend") {
    FOVEA_ASSIGN_OR_RETURN(std::string what, f.text("prepend"));
    step = make_prepend(std::move(what), false);
  } else if (type == "Replace") {
    FOVEA_ASSIGN_OR_RETURN(Pattern pattern, read_pattern(f, "pattern"));
    FOVEA_ASSIGN_OR_RETURN(std::string by, f.text("content"));
    if (pattern.regex) {
      FOVEA_ASSIGN_OR_RETURN(Regex regex, read_regex(f, "pattern.Regex", pattern.text));
      step = make_replace(std::move(regex), std::move(by));
    } else {
      step = make_replace(std::move(pattern.text), std::move(by));
    }
  } else if (type == "BertNormalizer") {
    BertOptions o;
    FOVEA_ASSIGN_OR_RETURN(o.clean_text, f.flag("clean_text", true));
    FOVEA_ASSIGN_OR_RETURN(o.chinese, f.flag("handle_chinese_chars", true));
    FOVEA_ASSIGN_OR_RETURN(o.lowercase, f.flag("lowercase", true));
    FOVEA_ASSIGN_OR_RETURN(o.strip_accents, f.flag("strip_accents", o.lowercase));
    step = make_bert(o);
  } else if (type == "Precompiled") {
    FOVEA_ASSIGN_OR_RETURN(const std::string bytes, read_base64(f, "precompiled_charsmap"));
    auto map = Charsmap::create(bytes);
    if (!map) return at(f, "precompiled_charsmap", map.error());
    step = make_charsmap(std::move(*map), true);
  } else if (type == "ByteLevel") {
    step = make_byte_letters();
    makes_letters = true;
  } else {
    return unknown_type(f, type);
  }
  FOVEA_RETURN_IF_ERROR(f.finish());
  out.push_back(std::move(step));
  return {};
}

namespace {

class PreTokenizerReader {
 public:
  PreTokenizerReader(std::string file, bool words_are_bytes, std::vector<SplitStepPtr>& out)
      : file_(std::move(file)), words_are_bytes_(words_are_bytes), out_(out) {}

  // `last`: no step comes behind it.
  Status read(const Json& value, const std::string& path, bool last) {
    FOVEA_ASSIGN_OR_RETURN(JsonFields f, JsonFields::of(value, file_, path));
    FOVEA_ASSIGN_OR_RETURN(const std::string type, f.text("type"));
    if (type == "Sequence") {
      FOVEA_ASSIGN_OR_RETURN(const Json* list, f.list("pretokenizers"));
      FOVEA_RETURN_IF_ERROR(f.finish());
      for (size_t i = 0; i < list->size(); ++i) {
        if (i + 1 < list->size() && digits_before_bytes((*list)[i], (*list)[i + 1])) {
          out_.push_back(std::move(make_rule(kSingleDigitsRule)).value());
          ++i;
          if (!last || i + 1 < list->size()) to_letters();
          continue;
        }
        FOVEA_RETURN_IF_ERROR(
            read((*list)[i], fmt::format("{}[{}]", f.path("pretokenizers"), i), last && i + 1 == list->size()));
      }
      return {};
    }
    if (type == "ByteLevel") {
      FOVEA_ASSIGN_OR_RETURN(const bool prefix, f.flag("add_prefix_space", true));
      FOVEA_ASSIGN_OR_RETURN(const bool regex, f.flag("use_regex", true));
      f.skip("trim_offsets");
      FOVEA_RETURN_IF_ERROR(f.finish());
      if (prefix) out_.push_back(make_prefix_space());
      if (regex) out_.push_back(std::move(make_rule(kGpt2Rule)).value());
      if (!last || !words_are_bytes_ || letters_) to_letters();
      return {};
    }
    FOVEA_ASSIGN_OR_RETURN(SplitStepPtr step, read_step(f, type));
    FOVEA_RETURN_IF_ERROR(f.finish());
    out_.push_back(std::move(step));
    return {};
  }

  void finish(bool letters_before) {
    if (words_are_bytes_ && (letters_ || letters_before)) out_.push_back(make_bytes_step());
  }

 private:
  void to_letters() {
    out_.push_back(make_byte_letters_step());
    letters_ = true;
  }

  static bool digits_before_bytes(const Json& a, const Json& b) {
    return a == Json({{"type", "Digits"}, {"individual_digits", true}}) && b.is_object() &&
           b.value("type", Json()) == "ByteLevel" && b.value("add_prefix_space", Json(true)) == false &&
           b.value("use_regex", Json(true)) == true && b.size() <= 4 &&
           b.contains("trim_offsets") == (b.size() > (b.contains("use_regex") ? 3u : 2u));
  }

  Result<SplitStepPtr> read_step(JsonFields& f, const std::string& type) {
    if (type == "Whitespace") return make_words();
    if (type == "WhitespaceSplit") return make_whitespace_split();
    if (type == "BertPreTokenizer") {
      out_.push_back(make_whitespace_split());
      return make_punctuation(Behaviour::kIsolated);
    }
    if (type == "UnicodeScripts") return make_scripts();
    if (type == "Punctuation") {
      FOVEA_ASSIGN_OR_RETURN(const Behaviour behaviour, read_behaviour(f, "Isolated"));
      return make_punctuation(behaviour);
    }
    if (type == "Digits") {
      FOVEA_ASSIGN_OR_RETURN(const bool individual, f.flag("individual_digits", false));
      return make_digits(individual);
    }
    if (type == "CharDelimiterSplit") {
      FOVEA_ASSIGN_OR_RETURN(const std::string c, read_character(f, "delimiter", ""));
      return make_delimiter_split(code_point_at(c.data(), c.data() + c.size()).value);
    }
    if (type == "FixedLength") {
      FOVEA_ASSIGN_OR_RETURN(const uint64_t length, f.count("length", 5));
      if (length == 0) return f.wrong("length", "1 or more", Json(length));
      return make_fixed_length(length);
    }
    if (type == "Metaspace") {
      FOVEA_ASSIGN_OR_RETURN(std::string mark, read_character(f, "replacement", kSpaceMark));
      FOVEA_ASSIGN_OR_RETURN(const Prefix prefix, read_prefix(f));
      FOVEA_ASSIGN_OR_RETURN(const bool split, f.flag("split", true));
      return make_metaspace(std::move(mark), prefix, split);
    }
    if (type == "Split") {
      FOVEA_ASSIGN_OR_RETURN(Pattern pattern, read_pattern(f, "pattern"));
      FOVEA_ASSIGN_OR_RETURN(const Behaviour behaviour, read_behaviour(f, "Isolated"));
      FOVEA_ASSIGN_OR_RETURN(const bool invert, f.flag("invert", false));
      if (!pattern.regex) {
        if (pattern.text.empty()) return f.wrong("pattern", "a text", Json(""));
        return make_text_split(std::move(pattern.text), behaviour, invert);
      }
      // A rule without gaps: its matches are all there is.
      const bool all = behaviour == Behaviour::kIsolated || (behaviour == Behaviour::kRemoved && invert);
      for (const SplitRule& rule : scanned_rules()) {
        if (all && rule.expression == pattern.text) return make_scan(rule.word_end);
      }
      FOVEA_ASSIGN_OR_RETURN(Regex regex, read_regex(f, "pattern.Regex", pattern.text));
      return make_regex_split(std::move(regex), behaviour, invert);
    }
    return unknown_type(f, type);
  }

  std::string file_;
  bool words_are_bytes_, letters_ = false;
  std::vector<SplitStepPtr>& out_;
};

}  // namespace

Status read_pre_tokenizer(const Json& value, const std::string& file, const std::string& path, bool words_are_bytes,
                          bool letters, std::vector<SplitStepPtr>& out) {
  PreTokenizerReader reader(file, words_are_bytes, out);
  if (!value.is_null()) FOVEA_RETURN_IF_ERROR(reader.read(value, path, true));
  reader.finish(letters);
  return {};
}

namespace {

Status check_id(const JsonFields& f, const char* key, const Json& id, size_t vocab_size) {
  if (id.is_number_unsigned() && id.get<uint64_t>() < vocab_size) return {};
  return f.wrong(key, fmt::format("a token below {}", vocab_size), id);
}

// ["[SEP]", 102]
Result<int32_t> read_pair(JsonFields& f, const char* key, size_t vocab_size) {
  FOVEA_ASSIGN_OR_RETURN(const Json* pair, f.list(key));
  if (pair->size() != 2) return f.wrong(key, "a token and its id", *pair);
  FOVEA_RETURN_IF_ERROR(check_id(f, key, (*pair)[1], vocab_size));
  return (*pair)[1].get<int32_t>();
}

Status read_template(JsonFields& f, size_t vocab_size, std::vector<int32_t>& prefix, std::vector<int32_t>& suffix) {
  FOVEA_ASSIGN_OR_RETURN(const Json* parts, f.list("single"));
  f.skip("pair");
  const Json none = Json::object();
  const Json* specials = f.find("special_tokens");
  FOVEA_ASSIGN_OR_RETURN(JsonFields tokens,
                         JsonFields::of(specials ? *specials : none, f.file(), f.path("special_tokens")));
  FOVEA_RETURN_IF_ERROR(f.finish());
  bool text = false;
  for (size_t i = 0; i < parts->size(); ++i) {
    const std::string path = fmt::format("{}[{}]", f.path("single"), i);
    FOVEA_ASSIGN_OR_RETURN(JsonFields part, JsonFields::of((*parts)[i], f.file(), path));
    const bool special = part.find("SpecialToken") != nullptr;
    const char* key = special ? "SpecialToken" : "Sequence";
    const Json* value = part.find(key);
    FOVEA_RETURN_IF_ERROR(part.finish());
    if (!value) return part.unsupported(key, "is missing");
    FOVEA_ASSIGN_OR_RETURN(JsonFields inner, JsonFields::of(*value, f.file(), part.path(key)));
    FOVEA_ASSIGN_OR_RETURN(const std::string id, inner.text("id"));
    inner.skip("type_id");
    FOVEA_RETURN_IF_ERROR(inner.finish());
    if (!special) {
      if (id != "A" || text) return inner.unsupported("id", fmt::format("is {}; one text \"A\" is known", quote(id)));
      text = true;
      continue;
    }
    const Json* token = tokens.find(id.c_str());
    if (!token) return inner.unsupported("id", fmt::format("is {}, which special_tokens has not", quote(id)));
    FOVEA_ASSIGN_OR_RETURN(JsonFields named, JsonFields::of(*token, f.file(), tokens.path(id.c_str())));
    FOVEA_ASSIGN_OR_RETURN(const Json* ids, named.list("ids"));
    for (const Json& one : *ids) {
      FOVEA_RETURN_IF_ERROR(check_id(named, "ids", one, vocab_size));
      (text ? suffix : prefix).push_back(one.get<int32_t>());
    }
  }
  if (!text) return f.unsupported("single", "has no text \"A\"");
  return {};
}

}  // namespace

Status read_post_processor(const Json& value, const std::string& file, const std::string& path, size_t vocab_size,
                           std::vector<int32_t>& prefix, std::vector<int32_t>& suffix) {
  if (value.is_null()) return {};
  FOVEA_ASSIGN_OR_RETURN(JsonFields f, JsonFields::of(value, file, path));
  FOVEA_ASSIGN_OR_RETURN(const std::string type, f.text("type"));
  if (type == "Sequence") {
    return each_of(f, "processors", [&](const Json& element, const std::string& at) -> Status {
      std::vector<int32_t> before, behind;
      FOVEA_RETURN_IF_ERROR(read_post_processor(element, file, at, vocab_size, before, behind));
      prefix.insert(prefix.begin(), before.begin(), before.end());  // around what the ones before have made
      suffix.insert(suffix.end(), behind.begin(), behind.end());
      return {};
    });
  }
  if (type == "TemplateProcessing") return read_template(f, vocab_size, prefix, suffix);
  const bool roberta = type == "RobertaProcessing";
  if (type == "BertProcessing" || roberta) {
    FOVEA_ASSIGN_OR_RETURN(const int32_t separator, read_pair(f, "sep", vocab_size));
    FOVEA_ASSIGN_OR_RETURN(const int32_t cls, read_pair(f, "cls", vocab_size));
    prefix.push_back(cls);
    suffix.push_back(separator);
    if (roberta) f.skip("trim_offsets"), f.skip("add_prefix_space");
  } else if (type == "ByteLevel") {
    for (const char* key : {"add_prefix_space", "trim_offsets", "use_regex"}) f.skip(key);  // offsets only
  } else {
    return unknown_type(f, type);
  }
  return f.finish();
}

namespace {

class DecoderReader {
 public:
  DecoderReader(std::string file, Decoder& out) : file_(std::move(file)), out_(out) {}

  Status read(const Json& value, const std::string& path) {
    FOVEA_ASSIGN_OR_RETURN(JsonFields f, JsonFields::of(value, file_, path));
    FOVEA_ASSIGN_OR_RETURN(const std::string type, f.text("type"));
    if (type == "Sequence")
      return each_of(f, "decoders", [&](const Json& element, const std::string& at) { return read(element, at); });
    TokenStepPtr step;
    if (type == "Fuse") {
      fused_ = true;
    } else if (type == "Strip") {
      FOVEA_ASSIGN_OR_RETURN(std::string c, read_character(f, "content", " "));
      FOVEA_ASSIGN_OR_RETURN(const uint64_t start, f.count("start", 0));
      FOVEA_ASSIGN_OR_RETURN(const uint64_t stop, f.count("stop", 0));
      if (fused_ && out_.whole.empty()) {
        out_.strip = c;
        out_.strip_start = start;
        out_.strip_stop = stop;
      }
      step = make_strip_decoder(std::move(c), start, stop);
    } else if (type == "Replace") {
      FOVEA_ASSIGN_OR_RETURN(Pattern pattern, read_pattern(f, "pattern"));
      FOVEA_ASSIGN_OR_RETURN(std::string by, f.text("content"));
      if (pattern.regex) {
        FOVEA_ASSIGN_OR_RETURN(Regex regex, read_regex(f, "pattern.Regex", pattern.text));
        step = make_replace_decoder(std::move(regex), std::move(by));
      } else {
        step = make_replace_decoder(std::move(pattern.text), std::move(by));
      }
    } else if (fused_) {
      return f.unsupported("type", fmt::format("is {}, which is not known behind a Fuse", quote(type)));
    } else if (type == "ByteFallback") {
      step = make_byte_fallback_decoder();
    } else if (type == "ByteLevel") {
      for (const char* key : {"add_prefix_space", "trim_offsets", "use_regex"}) f.skip(key);
      step = make_byte_level_decoder();
    } else if (type == "Metaspace") {
      FOVEA_ASSIGN_OR_RETURN(std::string mark, read_character(f, "replacement", kSpaceMark));
      FOVEA_ASSIGN_OR_RETURN(const Prefix prefix, read_prefix(f));
      f.skip("split");
      step = make_metaspace_decoder(std::move(mark), prefix != Prefix::kNever);
    } else if (type == "WordPiece") {
      FOVEA_ASSIGN_OR_RETURN(std::string mark, f.text("prefix", "##"));
      FOVEA_ASSIGN_OR_RETURN(const bool cleanup, f.flag("cleanup", true));
      step = make_word_piece_decoder(std::move(mark), cleanup);
    } else if (type == "BPEDecoder") {
      FOVEA_ASSIGN_OR_RETURN(std::string mark, f.text("suffix", "</w>"));
      step = make_suffix_decoder(std::move(mark));
    } else if (type == "CTC") {
      FOVEA_ASSIGN_OR_RETURN(std::string pad, f.text("pad_token", "<pad>"));
      FOVEA_ASSIGN_OR_RETURN(std::string delimiter, f.text("word_delimiter_token", "|"));
      FOVEA_ASSIGN_OR_RETURN(const bool cleanup, f.flag("cleanup", true));
      step = make_ctc_decoder(std::move(pad), std::move(delimiter), cleanup);
      out_.drops_repeats = true;
    } else {
      return unknown_type(f, type);
    }
    FOVEA_RETURN_IF_ERROR(f.finish());
    if (step) (fused_ ? out_.whole : out_.tokens).push_back(std::move(step));
    return {};
  }

 private:
  std::string file_;
  Decoder& out_;
  bool fused_ = false;
};

}  // namespace

Status read_decoder(const Json& value, const std::string& file, const std::string& path, Decoder& out) {
  if (!value.is_null()) return DecoderReader(file, out).read(value, path);
  out.tokens.push_back(make_join_decoder());
  return {};
}

}  // namespace fovea::tokenizers
