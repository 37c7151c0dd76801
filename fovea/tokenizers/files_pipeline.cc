// The tokenizer of a folder, by the files that it has: the whole tokenizer.json, else what the library that published
// the model makes of the older files.
#include <algorithm>
#include <unordered_map>

#include "fovea/base/bytes.h"
#include "fovea/base/json.h"
#include "fovea/tokenizers/assemble.h"
#include "fovea/tokenizers/json_fields.h"
#include "fovea/tokenizers/pretokenize.h"
#include "fovea/tokenizers/sentencepiece_model.h"
#include "fovea/tokenizers/tokenizer_json.h"

namespace fovea::tokenizers {
namespace {

Result<Json> read_object(std::string_view text, const std::string& name) {
  if (text.empty()) return Json(Json::object());
  FOVEA_ASSIGN_OR_RETURN(Json value, parse_json(text, name));
  if (!value.is_object()) return make_error(ErrorCode::kData, "{}: it has to be an object", name);
  return value;
}

class Folder {
 public:
  explicit Folder(const Vocabulary& v) : v_(v), files_(v.files) {}

  Result<Pipeline> read() {
    FOVEA_ASSIGN_OR_RETURN(config_, read_object(files_.tokenizer_config, v_.name + ": tokenizer_config.json"));
    FOVEA_ASSIGN_OR_RETURN(map_, read_object(files_.special_tokens_map, v_.name + ": special_tokens_map.json"));
    FOVEA_ASSIGN_OR_RETURN(added_, read_object(files_.added_tokens, v_.name + ": added_tokens.json"));
    Status status;
    if (!files_.tokenizer_json.empty()) {
      FOVEA_ASSIGN_OR_RETURN(p_, read_tokenizer_json(files_.tokenizer_json, v_.name + ": tokenizer.json"));
    } else if (!files_.tokenizer_model.empty()) {
      status = read_sentencepiece();
    } else if (!files_.vocab_json.empty() && !files_.merges_txt.empty()) {
      status = read_byte_pairs();
    } else if (!files_.vocab_txt.empty()) {
      status = read_word_piece();
    } else {
      return make_error(ErrorCode::kNotFound,
                        "{}: the folder has no tokenizer: neither tokenizer.json, tokenizer.model, vocab.json with "
                        "merges.txt nor vocab.txt",
                        v_.name);
    }
    FOVEA_RETURN_IF_ERROR(status);
    if (wrong_) return *wrong_;
    set_named();
    return std::move(p_);
  }

 private:
  // "bos_token": "<s>", or {"content": "<s>", ...}. Empty: it is not there.
  static std::string content_of(const Json& object, const char* key) {
    auto it = object.find(key);
    if (it != object.end() && it->is_object()) {
      const auto content = it->find("content");
      return content != it->end() && content->is_string() ? content->get<std::string>() : std::string();
    }
    return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
  }
  // Of tokenizer_config.json, or of an object in it. One that is no bool is an error at the end.
  bool flag(const Json& object, const char* key, bool otherwise) {
    const auto it = object.find(key);
    if (it == object.end() || it->is_null()) return otherwise;
    if (it->is_boolean()) return it->get<bool>();
    if (!wrong_)
      wrong_ = make_error(ErrorCode::kData, "{}: tokenizer_config.json: {} is {}; true or false is needed", v_.name,
                          quote(key), shown(*it));
    return otherwise;
  }
  std::string named(const char* key, std::string_view otherwise = {}) const {
    std::string token = content_of(config_, key);
    if (token.empty()) token = content_of(map_, key);
    return token.empty() ? std::string(otherwise) : token;
  }
  int32_t find(std::string_view token) const {
    const auto it = token.empty() ? p_.spellings.end() : std::find(p_.spellings.begin(), p_.spellings.end(), token);
    return it == p_.spellings.end() ? -1 : static_cast<int32_t>(it - p_.spellings.begin());
  }

  // Which tokens begin, end, pad a text; where no file says it, by what the source says.
  void set_named() {
    const auto n = static_cast<int64_t>(p_.types.size());
    const auto id_of = [&](const char* key, int32_t known, int32_t otherwise) {
      const int32_t id = find(named(key));
      if (id >= 0) return id;
      if (known >= 0) return known;
      return otherwise >= 0 && otherwise < n ? otherwise : -1;
    };
    p_.bos = id_of("bos_token", p_.bos, v_.bos);
    p_.eos = id_of("eos_token", p_.eos, v_.eos);
    p_.padding = id_of("pad_token", p_.padding, v_.padding);
    p_.unknown = id_of("unk_token", p_.unknown, v_.unknown);
    p_.ends.clear();
    const int32_t eot = v_.eot >= 0 ? v_.eot : find_end_of_turn(p_, p_.eos);
    for (const int32_t id : {p_.eos, v_.eos, eot, v_.eom}) {
      if (id >= 0 && id < n) p_.ends.push_back(id);
    }
    for (const int32_t id : v_.more_ends) {
      if (id >= 0 && id < n) p_.ends.push_back(id);
    }
  }

  // Tokens behind those of the model's own file: added_tokens.json and added_tokens_decoder of tokenizer_config.json.
  // Those that are named (bos_token and so on) are control tokens.
  Status add_tokens() {
    struct Added {
      std::string content;
      size_t id;
      bool special, single_word, lstrip, rstrip;
    };
    std::vector<Added> all;
    for (const auto& [content, id] : added_.items()) {
      if (!id.is_number_unsigned()) return bad("added_tokens.json", content, id);
      all.push_back({content, id.get<size_t>(), false, false, false, false});
    }
    if (const auto decoder = config_.find("added_tokens_decoder"); decoder != config_.end() && decoder->is_object()) {
      for (const auto& [id, token] : decoder->items()) {
        const bool number = !id.empty() && id.size() < 9 && id.find_first_not_of("0123456789") == id.npos;
        if (!number || !token.is_object()) return bad("tokenizer_config.json: added_tokens_decoder", id, token);
        const std::string content = content_of(token, "content");
        all.push_back({content, static_cast<size_t>(std::stoul(id)), flag(token, "special", false),
                       flag(token, "single_word", false), flag(token, "lstrip", false), flag(token, "rstrip", false)});
      }
    }
    for (const char* key :
         {"bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token", "mask_token"}) {
      const std::string content = named(key);
      const int32_t id = find(content);
      if (id >= 0) all.push_back({content, static_cast<size_t>(id), true, false, false, false});
    }
    const size_t most = 2 * p_.spellings.size() + (1 << 16);
    std::unordered_map<std::string, SpecialTokens::Token> special;
    for (size_t i = 0; i < p_.spellings.size(); ++i) {
      const bool user = p_.types[i] == TokenType::kUserDefined && !p_.user_defined_in_model;
      if (p_.types[i] != TokenType::kControl && !user) continue;
      std::string s = p_.spellings[i];
      for (size_t at = s.find(kSpaceMark); at != s.npos && p_.types[i] == TokenType::kUserDefined;
           at = s.find(kSpaceMark))
        s.replace(at, kSpaceMark.size(), " ");
      special[s] = {s, static_cast<int32_t>(i), p_.types[i] == TokenType::kControl};
    }
    for (const Added& token : all) {
      if (token.content.empty()) continue;
      if (token.id >= most || token.content.size() > SpecialTokens::kMaxBytes)
        return bad("the added tokens", token.content, token.id);
      if (token.id >= p_.spellings.size()) {
        p_.spellings.resize(token.id + 1);
        p_.types.resize(token.id + 1, TokenType::kUnused);
      }
      std::string& spelling = p_.spellings[token.id];
      if (!spelling.empty() && spelling != token.content) {
        return make_error(ErrorCode::kData, "{}: the added token {} has the id {}, which is {}", v_.name,
                          quote(token.content), token.id, quote(spelling));
      }
      spelling = token.content;
      TokenType& type = p_.types[token.id];
      if (token.special || (type != TokenType::kControl && type != TokenType::kUnknown))
        type = token.special ? TokenType::kControl : TokenType::kUserDefined;
      special[token.content] = {
          token.content, static_cast<int32_t>(token.id), type == TokenType::kControl, token.single_word, token.lstrip,
          token.rstrip};
    }
    std::vector<SpecialTokens::Token> list;
    for (auto& [content, token] : special) list.push_back(std::move(token));
    p_.special = SpecialTokens(std::move(list));
    return {};
  }
  Error bad(const char* file, std::string_view content, const Json& value) const {
    return make_error(ErrorCode::kData, "{}: {}: {} is {}", v_.name, file, quote(content), shown(value));
  }

  void add_around(bool bos, bool eos) {
    if (bos && p_.bos >= 0) p_.prefix.push_back(p_.bos);
    if (eos && p_.eos >= 0) p_.suffix.push_back(p_.eos);
  }

  Status read_sentencepiece() {
    const std::string name = v_.name + ": tokenizer.model";
    FOVEA_ASSIGN_OR_RETURN(const SentencePieceModel model, parse_sentencepiece(files_.tokenizer_model, name));
    FOVEA_ASSIGN_OR_RETURN(p_, sentencepiece_pipeline(model, name, flag(config_, "legacy", true)));
    FOVEA_RETURN_IF_ERROR(add_tokens());
    set_named();
    // T5's texts end with a token, and have none in front; the others' begin with one.
    const std::string kind = content_of(config_, "tokenizer_class");
    const bool t5 = kind.starts_with("T5") || kind.starts_with("MT5");
    add_around(flag(config_, "add_bos_token", !t5), flag(config_, "add_eos_token", t5));
    return {};
  }

  Result<std::vector<std::string>> read_vocab(std::string_view text, const std::string& name) const {
    FOVEA_ASSIGN_OR_RETURN(const Json vocab, read_object(text, name));
    std::vector<std::string> out;
    for (const auto& [token, id] : vocab.items()) {
      const bool good = id.is_number_unsigned() && id.get<uint64_t>() < 2 * vocab.size() + (1 << 16);
      if (!good) return make_error(ErrorCode::kData, "{}: {} has the id {}", name, quote(token), shown(id));
      const auto i = id.get<size_t>();
      if (i >= out.size()) out.resize(i + 1);
      if (!out[i].empty())
        return make_error(ErrorCode::kData, "{}: {} and {} have the id {}", name, quote(out[i]), quote(token), i);
      out[i] = token;
    }
    if (out.empty()) return make_error(ErrorCode::kData, "{}: it has no tokens", name);
    return out;
  }

  // As GPT-2 and RoBERTa have it, and Qwen2.
  Status read_byte_pairs() {
    FOVEA_ASSIGN_OR_RETURN(std::vector<std::string> vocab, read_vocab(files_.vocab_json, v_.name + ": vocab.json"));
    const std::string name = v_.name + ": merges.txt";
    FOVEA_RETURN_IF_ERROR(set_tokens(p_, v_.name, std::move(vocab), {}));
    for (size_t i = 0; i < p_.spellings.size(); ++i) {
      if (p_.spellings[i].empty()) p_.types[i] = TokenType::kUnused;
    }
    FOVEA_RETURN_IF_ERROR(add_tokens());
    set_named();
    const std::string kind = content_of(config_, "tokenizer_class");
    BpeSource source;
    source.byte_level = true;
    std::string_view rest = files_.merges_txt;
    for (size_t line = 1; !rest.empty(); ++line) {
      std::string_view text = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), text.size() + 1));
      if (text.ends_with('\r')) text.remove_suffix(1);
      if (text.empty() || (line == 1 && text.starts_with("#version"))) continue;
      const size_t space = text.find(' ');
      if (space == text.npos || space == 0 || space + 1 == text.size() || text.find(' ', space + 1) != text.npos)
        return make_error(ErrorCode::kData, "{}, line {}: {} is not two tokens with a space between", name, line,
                          quote(text));
      source.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    }
    const bool qwen = kind.starts_with("Qwen2");
    if (qwen) p_.normalizers.push_back(make_unicode_form(UnicodeForm::kNfc));
    if (flag(config_, "add_prefix_space", false)) p_.steps.push_back(make_prefix_space());
    FOVEA_ASSIGN_OR_RETURN(SplitStepPtr rule, make_rule(qwen ? find_pre_tokenizer("qwen2")->rules[0] : kGpt2Rule));
    p_.steps.push_back(std::move(rule));
    FOVEA_RETURN_IF_ERROR(set_bpe(p_, v_.name, source));
    p_.decoder.tokens.push_back(make_byte_level_decoder());
    if (kind.starts_with("Roberta")) {
      const int32_t cls = find(named("cls_token", "<s>")), separator = find(named("sep_token", "</s>"));
      if (cls >= 0) p_.prefix.push_back(cls);
      if (separator >= 0) p_.suffix.push_back(separator);
    } else {
      add_around(flag(config_, "add_bos_token", false), flag(config_, "add_eos_token", false));
    }
    return {};
  }

  // As BERT has it: a token a line.
  Status read_word_piece() {
    std::vector<std::string> vocab;
    std::string_view rest = files_.vocab_txt;
    while (!rest.empty()) {
      std::string_view text = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), text.size() + 1));
      if (text.ends_with('\r')) text.remove_suffix(1);
      vocab.emplace_back(text);
    }
    FOVEA_RETURN_IF_ERROR(set_tokens(p_, v_.name, std::move(vocab), {}));
    for (size_t i = 0; i < p_.spellings.size(); ++i) {
      if (p_.spellings[i].empty()) p_.types[i] = TokenType::kUnused;
    }
    const int32_t unknown = find(named("unk_token", "[UNK]"));
    const int32_t cls = find(named("cls_token", "[CLS]")), separator = find(named("sep_token", "[SEP]"));
    for (const std::string_view token : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) {
      if (const int32_t id = find(token); id >= 0) p_.types[static_cast<size_t>(id)] = TokenType::kControl;
    }
    FOVEA_RETURN_IF_ERROR(add_tokens());
    BertOptions o;
    o.lowercase = flag(config_, "do_lower_case", true);
    o.strip_accents = flag(config_, "strip_accents", o.lowercase);
    o.chinese = flag(config_, "tokenize_chinese_chars", true);
    p_.normalizers.push_back(make_bert(o));
    p_.steps.push_back(make_whitespace_split());
    p_.steps.push_back(make_punctuation(Behaviour::kIsolated));
    p_.decoder.tokens.push_back(make_word_piece_decoder("##", true));
    p_.unknown = unknown;
    if (cls >= 0) p_.prefix.push_back(cls);
    if (separator >= 0) p_.suffix.push_back(separator);
    return set_word_piece(p_, "##", unknown, 100);
  }

  const Vocabulary& v_;
  const TokenizerFiles& files_;
  Json config_, map_, added_;
  Pipeline p_;
  std::optional<Error> wrong_;
};

}  // namespace

Result<Pipeline> files_pipeline(const Vocabulary& v) { return Folder(v).read(); }

}  // namespace fovea::tokenizers
