#include "fovea/tokenizers/tokenizer_json.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <unordered_map>

#include "fovea/base/bytes.h"
#include "fovea/base/json.h"
#include "fovea/tokenizers/assemble.h"
#include "fovea/tokenizers/json_parts.h"
#include "fovea/tokenizers/models/word_piece.h"

namespace fovea::tokenizers {
namespace {

struct AddedToken {
  std::string content;
  int32_t id = -1;
  bool single_word = false, lstrip = false, rstrip = false, normalized = false, special = false;
};

Error wrong(const std::string& name, const std::string& path, const std::string& what) {
  return Error{ErrorCode::kData, fmt::format("{}: {} {}", name, path, what), path};
}

Result<std::vector<AddedToken>> read_added(const Json& list, const std::string& name) {
  std::vector<AddedToken> out;
  if (list.is_null()) return out;
  if (!list.is_array()) return wrong(name, ".added_tokens", "has to be an array");
  for (size_t i = 0; i < list.size(); ++i) {
    FOVEA_ASSIGN_OR_RETURN(JsonFields f, JsonFields::of(list[i], name, fmt::format(".added_tokens[{}]", i)));
    AddedToken t;
    FOVEA_ASSIGN_OR_RETURN(t.content, f.text("content"));
    FOVEA_ASSIGN_OR_RETURN(const uint64_t id, f.count("id", UINT64_MAX));
    if (id > INT32_MAX / 2) return f.wrong("id", "a token", Json(id));
    t.id = static_cast<int32_t>(id);
    FOVEA_ASSIGN_OR_RETURN(t.single_word, f.flag("single_word", false));
    FOVEA_ASSIGN_OR_RETURN(t.lstrip, f.flag("lstrip", false));
    FOVEA_ASSIGN_OR_RETURN(t.rstrip, f.flag("rstrip", false));
    FOVEA_ASSIGN_OR_RETURN(t.special, f.flag("special", false));
    FOVEA_ASSIGN_OR_RETURN(t.normalized, f.flag("normalized", !t.special));
    FOVEA_RETURN_IF_ERROR(f.finish());
    if (t.content.size() > SpecialTokens::kMaxBytes) {
      return make_error(ErrorCode::kLimit, "{}: .added_tokens[{}].content is {} bytes long; {} are allowed", name, i,
                        t.content.size(), SpecialTokens::kMaxBytes);
    }
    out.push_back(std::move(t));
  }
  return out;
}

class Reader {
 public:
  Reader(const Json& root, std::string name) : root_(root), name_(std::move(name)) {}

  Result<Pipeline> read() {
    FOVEA_ASSIGN_OR_RETURN(JsonFields f, JsonFields::of(root_, name_, ""));
    for (const char* key : {"version", "truncation", "padding"}) f.skip(key);
    const auto get = [&f](const char* key) -> const Json& {
      static const Json none;
      const Json* found = f.find(key);
      return found ? *found : none;
    };
    FOVEA_ASSIGN_OR_RETURN(added_, read_added(get("added_tokens"), name_));
    FOVEA_ASSIGN_OR_RETURN(JsonFields model, JsonFields::of(get("model"), name_, ".model"));
    const Json &normalizer = get("normalizer"), &pre = get("pre_tokenizer");
    const Json &post = get("post_processor"), &decoder = get("decoder");
    FOVEA_RETURN_IF_ERROR(f.finish());
    byte_level_ = has_step(pre, "ByteLevel") || has_step(normalizer, "ByteLevel");

    bool letters = false;
    FOVEA_RETURN_IF_ERROR(read_normalizer(normalizer, name_, ".normalizer", p_.normalizers, letters));
    FOVEA_ASSIGN_OR_RETURN(const std::string type, type_of(model));
    const bool bpe = type == "BPE";
    FOVEA_RETURN_IF_ERROR(read_pre_tokenizer(pre, name_, ".pre_tokenizer", bpe && byte_level_, letters, p_.steps));
    FOVEA_RETURN_IF_ERROR(bpe                   ? read_bpe(model)
                          : type == "Unigram"   ? read_unigram(model)
                          : type == "WordPiece" ? read_word_piece(model)
                                                : read_word_level(model));
    FOVEA_RETURN_IF_ERROR(set_added());
    FOVEA_RETURN_IF_ERROR(read_post_processor(post, name_, ".post_processor", p_.types.size(), p_.prefix, p_.suffix));
    FOVEA_RETURN_IF_ERROR(read_decoder(decoder, name_, ".decoder", p_.decoder));
    return std::move(p_);
  }

 private:
  // Files of old do not say it.
  Result<std::string> type_of(JsonFields& model) const {
    FOVEA_ASSIGN_OR_RETURN(std::string type, model.text("type", ""));
    if (type.empty()) {
      const Json* vocab = model.find("vocab");
      type = model.find("merges")                     ? "BPE"
             : vocab && vocab->is_array()             ? "Unigram"
             : model.find("max_input_chars_per_word") ? "WordPiece"
                                                      : "WordLevel";
    }
    for (const std::string_view known : {"BPE", "Unigram", "WordPiece", "WordLevel"}) {
      if (type == known) return type;
    }
    return model.unsupported("type", fmt::format("is {}, which is not known", quote(type)));
  }

  // The tokens of the model, and those that were added behind it.
  Status set_all(std::vector<std::string> spellings) {
    std::vector<TokenType> types(spellings.size(), TokenType::kNormal);
    for (size_t i = 0; i < spellings.size(); ++i) {
      if (spellings[i].empty()) types[i] = TokenType::kUnused;
    }
    std::unordered_map<std::string_view, int32_t> ids;
    for (size_t i = 0; i < spellings.size(); ++i) ids.emplace(spellings[i], static_cast<int32_t>(i));
    const size_t n_model = spellings.size(), most = 2 * n_model + (1 << 20);
    for (size_t i = 0; i < added_.size(); ++i) {
      AddedToken& token = added_[i];
      if (token.content.empty()) continue;
      if (const auto it = ids.find(token.content); it != ids.end()) token.id = it->second;
      const auto id = static_cast<size_t>(token.id);
      const std::string path = fmt::format(".added_tokens[{}]", i);
      if (id >= most) return wrong(name_, path + ".id", fmt::format("is {}; the model has {} tokens", id, n_model));
      if (id >= types.size()) types.resize(id + 1, TokenType::kUnused);
    }
    ids.clear();
    spellings.resize(types.size());
    for (size_t i = 0; i < added_.size(); ++i) {
      const AddedToken& token = added_[i];
      if (token.content.empty()) continue;
      const auto id = static_cast<size_t>(token.id);
      if (!spellings[id].empty() && spellings[id] != token.content) {
        return wrong(name_, fmt::format(".added_tokens[{}].id", i),
                     fmt::format("is {}, which is {} already", id, quote(spellings[id])));
      }
      spellings[id] = token.content;
      types[id] = token.special ? TokenType::kControl : TokenType::kUserDefined;
    }
    return set_tokens(p_, name_, std::move(spellings), std::move(types));
  }

  // {"token": id}
  Result<std::vector<std::string>> read_vocab(JsonFields& model) const {
    const Json* vocab = model.find("vocab");
    if (!vocab || !vocab->is_object()) return wrong(name_, model.path("vocab"), "has to be an object");
    const size_t most = 2 * vocab->size() + (1 << 16);
    std::vector<std::string> out;
    out.reserve(vocab->size());
    for (const auto& [token, id] : vocab->items()) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() >= most) {
        return wrong(name_, model.path("vocab"),
                     fmt::format("gives {} the id {}; there are {} tokens", quote(token), shown(id), vocab->size()));
      }
      const auto i = id.get<size_t>();
      if (i >= out.size()) out.resize(i + 1);
      if (!out[i].empty()) {
        return wrong(name_, model.path("vocab"),
                     fmt::format("gives {} and {} the id {}", quote(out[i]), quote(token), i));
      }
      out[i] = token;
    }
    if (out.empty()) return wrong(name_, model.path("vocab"), "has no tokens");
    return out;
  }

  int32_t find(std::string_view token) const {
    const auto it = token.empty() ? p_.spellings.end() : std::find(p_.spellings.begin(), p_.spellings.end(), token);
    return it == p_.spellings.end() ? -1 : static_cast<int32_t>(it - p_.spellings.begin());
  }

  Status read_bpe(JsonFields& model) {
    FOVEA_ASSIGN_OR_RETURN(std::vector<std::string> vocab, read_vocab(model));
    FOVEA_RETURN_IF_ERROR(set_all(std::move(vocab)));
    BpeSource source;
    source.byte_level = byte_level_;
    source.merges_where = model.path("merges");
    if (const Json* dropout = model.find("dropout"); dropout && (!dropout->is_number() || dropout->get<double>() != 0))
      return model.unsupported("dropout", "would make tokens depend on chance; only null is supported");
    FOVEA_ASSIGN_OR_RETURN(const std::string unknown, model.text("unk_token", ""));
    source.unknown = p_.unknown = find(unknown);
    FOVEA_ASSIGN_OR_RETURN(source.inner_mark, model.text("continuing_subword_prefix", ""));
    FOVEA_ASSIGN_OR_RETURN(source.last_mark, model.text("end_of_word_suffix", ""));
    FOVEA_ASSIGN_OR_RETURN(source.fuse_unknown, model.flag("fuse_unk", false));
    FOVEA_ASSIGN_OR_RETURN(source.byte_fallback, model.flag("byte_fallback", false));
    FOVEA_ASSIGN_OR_RETURN(source.whole_words_first, model.flag("ignore_merges", false));
    FOVEA_ASSIGN_OR_RETURN(const Json* merges, model.list("merges"));
    FOVEA_RETURN_IF_ERROR(model.finish());
    source.merges.reserve(merges->size());
    for (size_t i = 0; i < merges->size(); ++i) {
      const Json& merge = (*merges)[i];
      const bool pair = merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
      if (pair) {
        source.merges.emplace_back(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>());
        continue;
      }
      const std::string_view text = merge.is_string() ? std::string_view(merge.get_ref<const std::string&>()) : "";
      const size_t space = text.find(' ');
      if (space == text.npos || space == 0 || space + 1 == text.size() || text.find(' ', space + 1) != text.npos)
        return wrong(name_, fmt::format("{}[{}]", model.path("merges"), i),
                     fmt::format("is {}; it has to be two tokens", shown(merge)));
      source.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    }
    return set_bpe(p_, name_, source);
  }

  Status read_unigram(JsonFields& model) {
    FOVEA_ASSIGN_OR_RETURN(const Json* vocab, model.list("vocab"));
    FOVEA_ASSIGN_OR_RETURN(const uint64_t unknown, model.count("unk_id", UINT64_MAX));
    FOVEA_ASSIGN_OR_RETURN(const bool bytes, model.flag("byte_fallback", false));
    FOVEA_RETURN_IF_ERROR(model.finish());
    std::vector<std::string> spellings;
    std::vector<double> scores;
    double lowest = 0;
    for (size_t i = 0; i < vocab->size(); ++i) {
      const Json& token = (*vocab)[i];
      if (!token.is_array() || token.size() != 2 || !token[0].is_string() || !token[1].is_number())
        return wrong(name_, fmt::format("{}[{}]", model.path("vocab"), i), "has to be a token and its score");
      spellings.push_back(token[0].get<std::string>());
      scores.push_back(token[1].get<double>());
      if (!std::isfinite(scores.back()))
        return wrong(name_, fmt::format("{}[{}]", model.path("vocab"), i), "has no finite score");
      lowest = i == 0 ? scores[0] : std::min(lowest, scores.back());
    }
    if (spellings.empty()) return wrong(name_, model.path("vocab"), "has no tokens");
    if (unknown != UINT64_MAX && unknown >= spellings.size())
      return wrong(name_, model.path("unk_id"),
                   fmt::format("is {}; the model has {} tokens", unknown, spellings.size()));
    Fallback fallback;
    fallback.fuse = true;
    fallback.unknown = p_.unknown = unknown == UINT64_MAX ? -1 : static_cast<int32_t>(unknown);
    FOVEA_RETURN_IF_ERROR(set_all(std::move(spellings)));
    if (bytes) {
      (void)find_byte_tokens(p_, fallback);
      for (const int32_t id : fallback.bytes) {
        if (id >= 0 && p_.types[static_cast<size_t>(id)] == TokenType::kNormal)
          p_.types[static_cast<size_t>(id)] = TokenType::kByte;
      }
    }
    scores.resize(p_.spellings.size(), lowest);
    return set_unigram(p_, name_, std::move(scores), lowest, fallback);
  }

  Status read_word_piece(JsonFields& model) {
    FOVEA_ASSIGN_OR_RETURN(std::vector<std::string> vocab, read_vocab(model));
    FOVEA_RETURN_IF_ERROR(set_all(std::move(vocab)));
    FOVEA_ASSIGN_OR_RETURN(const std::string unknown, model.text("unk_token", "[UNK]"));
    FOVEA_ASSIGN_OR_RETURN(const std::string mark, model.text("continuing_subword_prefix", "##"));
    FOVEA_ASSIGN_OR_RETURN(const uint64_t most, model.count("max_input_chars_per_word", 100));
    FOVEA_RETURN_IF_ERROR(model.finish());
    p_.unknown = find(unknown);
    return set_word_piece(p_, mark, p_.unknown, most);
  }

  Status read_word_level(JsonFields& model) {
    FOVEA_ASSIGN_OR_RETURN(std::vector<std::string> vocab, read_vocab(model));
    FOVEA_RETURN_IF_ERROR(set_all(std::move(vocab)));
    FOVEA_ASSIGN_OR_RETURN(const std::string unknown, model.text("unk_token", "<unk>"));
    FOVEA_RETURN_IF_ERROR(model.finish());
    p_.unknown = find(unknown);
    std::vector<std::pair<std::string_view, int32_t>> words;
    for (size_t i = 0; i < p_.spellings.size(); ++i) {
      if (is_text(p_.types[i]) && !p_.spellings[i].empty())
        words.emplace_back(p_.spellings[i], static_cast<int32_t>(i));
    }
    p_.model = make_word_level(words, p_.unknown);
    return {};
  }

  // Tokens that are "normalized" are looked for in the normalised text, under what normalising makes of them.
  Status set_added() {
    std::vector<SpecialTokens::Token> raw, after, all;
    std::set<std::string> seen_raw, seen_after, seen;
    for (const AddedToken& t : added_) {
      if (t.content.empty()) continue;
      SpecialTokens::Token token{t.content, t.id, t.special, t.single_word, t.lstrip, t.rstrip};
      if (seen.insert(t.content).second) all.push_back(token);
      if (!t.normalized) {
        if (seen_raw.insert(t.content).second) raw.push_back(std::move(token));
        continue;
      }
      for (const NormalizerPtr& step : p_.normalizers) {
        TextEdit edit(token.spelling, false);
        FOVEA_RETURN_IF_ERROR(step->apply(edit, true));
        if (edit.changed()) token.spelling = std::string(edit.text());
      }
      if (token.spelling.empty() || token.spelling.size() > 4 * SpecialTokens::kMaxBytes) continue;
      if (seen_after.insert(token.spelling).second) after.push_back(std::move(token));
    }
    if (!after.empty()) p_.special_all = SpecialTokens(std::move(all));
    if (!raw.empty()) p_.special = SpecialTokens(std::move(raw));
    if (!after.empty()) p_.special_after = SpecialTokens(std::move(after));
    return {};
  }

  const Json& root_;
  std::string name_;
  Pipeline p_;
  std::vector<AddedToken> added_;
  bool byte_level_ = false;
};

}  // namespace

Result<Pipeline> read_tokenizer_json(std::string_view text, const std::string& name) {
  FOVEA_ASSIGN_OR_RETURN(const Json root, parse_json(text, name));
  return Reader(root, name).read();
}

}  // namespace fovea::tokenizers
