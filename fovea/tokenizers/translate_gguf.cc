#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/json.h"
#include "fovea/tokenizers/alike.h"
#include "fovea/tokenizers/assemble.h"
#include "fovea/tokenizers/base64.h"
#include "fovea/tokenizers/pipeline.h"
#include "fovea/tokenizers/pretokenize.h"
#include "fovea/tokenizers/sentencepiece_model.h"
#include "fovea/tokenizers/tokenizer.h"
#include "fovea/tokenizers/translate.h"

namespace fovea::tokenizers {
namespace {

using Json = nlohmann::ordered_json;

// The first value of a key anywhere in a value.
const Json* find_deep(const Json& in, std::string_view key) {
  if (!in.is_structured()) return nullptr;
  if (const auto it = in.is_object() ? in.find(key) : in.end(); it != in.end()) return &*it;
  for (const Json& part : in) {
    if (const Json* found = find_deep(part, key)) return found;
  }
  return nullptr;
}
bool has_type(const Json& in, std::string_view type) {
  if (!in.is_structured()) return false;
  if (const auto it = in.is_object() ? in.find("type") : in.end(); it != in.end() && *it == type) return true;
  return std::any_of(in.begin(), in.end(), [type](const Json& part) { return has_type(part, type); });
}

bool holds(const Json& in, std::string_view text) {
  if (in.is_string()) return in.get_ref<const std::string&>() == text;
  return in.is_structured() &&
         std::any_of(in.begin(), in.end(), [text](const Json& part) { return holds(part, text); });
}

bool is_byte(std::string_view token) { return token.size() == 6 && token.starts_with("<0x") && token.ends_with('>'); }

class Lists {
 public:
  Lists(const Vocabulary& v, size_t n_tokens) : v_(v), n_tokens_(n_tokens) {}

  Result<GgufLists> run() {
    FOVEA_ASSIGN_OR_RETURN(const Pipeline p, files_pipeline(v_));
    FOVEA_ASSIGN_OR_RETURN(const auto theirs, Tokenizer::create(v_));
    out_.tokens = p.spellings, out_.types = p.types;
    out_.bos = p.bos, out_.eos = p.eos, out_.unknown = p.unknown, out_.padding = p.padding;
    const TokenizerFiles& files = v_.files;
    if (!files.tokenizer_json.empty()) {
      FOVEA_ASSIGN_OR_RETURN(const Json root, parse_json(files.tokenizer_json, v_.name + ": tokenizer.json"));
      FOVEA_RETURN_IF_ERROR(read_json_model(root));
    } else if (!files.tokenizer_model.empty()) {
      FOVEA_RETURN_IF_ERROR(read_sentencepiece());
    } else if (!files.merges_txt.empty()) {
      read_merges(files.merges_txt);
    } else {
      out_.kind = "bert";
    }
    FOVEA_RETURN_IF_ERROR(put_ends(p));
    FOVEA_RETURN_IF_ERROR(fill());
    FOVEA_RETURN_IF_ERROR(choose(*theirs));
    return std::move(out_);
  }

 private:
  Error cannot(const std::string& what) const {
    return Error{ErrorCode::kUnsupported, fmt::format("{}: {}, which GGUF files cannot say", v_.name, what),
                 "tokenizer"};
  }

  Status read_json_model(const Json& root) {
    const Json none;
    const auto part = [&](const char* key) -> const Json& { return root.contains(key) ? root[key] : none; };
    const Json& model = part("model");  // read by files_pipeline before: its form is right
    const bool bytes = has_type(part("pre_tokenizer"), "ByteLevel") || has_type(part("normalizer"), "ByteLevel");
    if (model.contains("merges")) {
      const Json& merges = model["merges"];
      for (const Json& merge : merges)
        out_.merges.push_back(merge.is_string() ? merge.get<std::string>()
                                                : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
      out_.kind = bytes ? "gpt2" : "llama";
      cuts_ = part("pre_tokenizer");
      if (!bytes) score_by_merges(merges);
    } else if (model.contains("vocab") && model["vocab"].is_array()) {
      out_.kind = "t5";
      for (const Json& token : model["vocab"]) out_.scores.push_back(token[1].get<float>());
      if (const Json* map = find_deep(part("normalizer"), "precompiled_charsmap"); map && map->is_string())
        out_.charsmap = from_base64(map->get_ref<const std::string&>());
    } else if (model.contains("max_input_chars_per_word")) {
      out_.kind = "bert";
    } else {
      return cannot("its tokenizer.json is a list of words (WordLevel)");
    }
    return {};
  }

  // SentencePiece takes the pair whose token has the greatest score: the earlier a merge, the greater.
  void score_by_merges(const Json& merges) {
    std::unordered_map<std::string, float> scores;
    float rank = 0;
    for (const Json& merge : merges) {
      std::string token;
      if (merge.is_string()) {
        token = merge.get<std::string>();
        token.erase(token.find(' '), 1);
      } else {
        token = merge[0].get<std::string>() + merge[1].get<std::string>();
      }
      scores.emplace(std::move(token), rank--);
    }
    for (const std::string& token : out_.tokens) {
      const auto it = scores.find(token);
      out_.scores.push_back(it == scores.end() ? rank : it->second);
    }
    out_.merges.clear();
  }

  Status read_sentencepiece() {
    FOVEA_ASSIGN_OR_RETURN(const auto model, parse_sentencepiece(v_.files.tokenizer_model, v_.name));
    if (model.kind != SentencePieceModel::Kind::kBpe && model.kind != SentencePieceModel::Kind::kUnigram)
      return cannot("its tokenizer.model is one of words or characters");
    out_.kind = model.kind == SentencePieceModel::Kind::kBpe ? "llama" : "t5";
    out_.scores = model.scores;
    out_.charsmap = model.charsmap;
    return {};
  }

  void read_merges(std::string_view text) {
    out_.kind = "gpt2";
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      std::string_view line = text.substr(at, end - at);
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (!line.empty() && !(at == 0 && line.starts_with("#version"))) out_.merges.emplace_back(line);
      at = end + 1;
    }
  }

  Status put_ends(const Pipeline& p) {
    const bool bert = out_.kind == "bert";
    if (p.prefix.size() > 1 || p.suffix.size() > 1) return cannot("it puts several tokens around a text");
    out_.add_bos = !p.prefix.empty(), out_.add_eos = !bert && !p.suffix.empty();
    if (out_.add_bos) out_.bos = p.prefix[0];
    if (bert && !p.suffix.empty()) out_.separator = p.suffix[0];
    if (out_.add_eos && out_.eos < 0) out_.eos = p.suffix[0];
    if (out_.add_eos && out_.eos != p.suffix[0]) return cannot("the token behind a text is not the one that ends it");
    return {};
  }

  Status fill() {
    if (out_.tokens.size() > n_tokens_)
      return Error{
          ErrorCode::kData,
          fmt::format("{}: its tokenizer has {} tokens, but the model only {}", v_.name, out_.tokens.size(), n_tokens_),
          "tokenizer"};
    const bool bert = out_.kind == "bert", scored = out_.kind == "llama" || out_.kind == "t5";
    for (size_t i = 0; i < out_.tokens.size(); ++i) {
      std::string& token = out_.tokens[i];
      TokenType& type = out_.types[i];
      if (scored && type == TokenType::kNormal && is_byte(token)) type = TokenType::kByte;
      if (scored && static_cast<int32_t>(i) == out_.unknown) type = TokenType::kUnknown;
      if (bert && is_text(type)) token = token.starts_with("##") ? token.substr(2) : kSpaceMark + token;
    }
    for (size_t i = 0; i < n_tokens_; ++i) {
      if (i >= out_.tokens.size()) out_.tokens.emplace_back(), out_.types.push_back(TokenType::kUnused);
      if (out_.tokens[i].empty()) out_.tokens[i] = fmt::format("[PAD{}]", i), out_.types[i] = TokenType::kUnused;
    }
    if (!out_.scores.empty()) out_.scores.resize(n_tokens_, 0);
    return {};
  }

  // The name of the rule, and the ways to write spaces, that give the ids of the files.
  Status choose(const Tokenizer& theirs) {
    const auto probe = probe_texts(theirs, cuts_.dump());
    std::string why = "no rule";
    const auto alike = [&]() -> Result<bool> {
      const auto ours = Tokenizer::create(out_.view(v_.name));
      if (!ours) {
        why = ours.error().message;
        return false;
      }
      return gives_the_same(theirs, **ours, probe);
    };
    if (out_.kind == "gpt2") {
      const auto written = [&](const PreTokenizer& rule) {
        return std::ranges::all_of(rule.rules, [&](std::string_view expression) { return holds(cuts_, expression); });
      };
      for (const bool first : {true, false}) {  // first the rules whose expressions the file has
        for (const PreTokenizer& rule : pre_tokenizers()) {
          if (written(rule) != first) continue;
          out_.pre = rule.names[0];
          FOVEA_ASSIGN_OR_RETURN(const bool same, alike());
          if (same) return {};
        }
      }
      return cannot("the rule by which its tokenizer cuts words");
    }
    for (const bool prefix : {true, false}) {
      for (const bool collapse : {false, true}) {
        out_.add_space_prefix = prefix, out_.remove_extra_whitespaces = collapse;
        FOVEA_ASSIGN_OR_RETURN(const bool same, alike());
        if (same) return {};
        if (out_.kind == "bert") return cannot("the way in which its tokenizer normalises text");
      }
    }
    return cannot("the way in which its tokenizer writes spaces or normalises text");
  }

  const Vocabulary& v_;
  size_t n_tokens_;
  Json cuts_;  // the pre-tokenizer of a byte-level tokenizer.json
  GgufLists out_;
};

}  // namespace

Vocabulary GgufLists::view(const std::string& name) const {
  Vocabulary v;
  v.name = name, v.kind = kind, v.pre = pre, v.charsmap = charsmap;
  v.tokens.assign(tokens.begin(), tokens.end());
  v.merges.assign(merges.begin(), merges.end());
  v.types = types, v.scores = scores;
  v.add_bos = add_bos, v.add_eos = add_eos;
  v.add_space_prefix = add_space_prefix, v.remove_extra_whitespaces = remove_extra_whitespaces;
  v.bos = bos, v.eos = eos, v.unknown = unknown, v.padding = padding, v.separator = separator;
  return v;
}

Result<GgufLists> gguf_lists(const Vocabulary& files, size_t n_tokens) { return Lists(files, n_tokens).run(); }

}  // namespace fovea::tokenizers
