#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/utf8.h"
#include "fovea/tokenizers/alike.h"
#include "fovea/tokenizers/assemble.h"
#include "fovea/tokenizers/base64.h"
#include "fovea/tokenizers/pipeline.h"
#include "fovea/tokenizers/pretokenize.h"
#include "fovea/tokenizers/tokenizer.h"
#include "fovea/tokenizers/translate.h"

namespace fovea::tokenizers {
namespace {

using Json = nlohmann::ordered_json;

Json sequence(const char* of, Json list) { return {{"type", "Sequence"}, {of, std::move(list)}}; }
Json replaced(const char* kind, std::string_view from, std::string_view to) {
  return {{"type", "Replace"}, {"pattern", {{kind, from}}}, {"content", to}};
}

class Writer {
 public:
  Writer(const Vocabulary& v, const Pipeline& p) : v_(v), p_(p) {}

  Json run() {
    out_ = {{"version", "1.0"},           {"truncation", nullptr}, {"padding", nullptr},
            {"added_tokens", added()},    {"normalizer", nullptr}, {"pre_tokenizer", nullptr},
            {"post_processor", around()}, {"decoder", nullptr}};
    if (v_.kind == "gpt2") {
      byte_pairs();
    } else if (v_.kind == "bert") {
      word_piece();
    } else {
      write_spaces();
      out_["model"] = v_.kind == "llama" ? scored_pairs() : unigram();
    }
    return std::move(out_);
  }

 private:
  std::string spelling(size_t id) const { return p_.spellings[id]; }

  Json added() const {
    Json list = Json::array();
    for (size_t id = 0; id < p_.types.size(); ++id) {
      const TokenType type = p_.types[id];
      const bool user = type == TokenType::kUserDefined, special = type == TokenType::kControl;
      if (!user && !special && type != TokenType::kUnknown) continue;
      list.push_back({{"id", id},
                      {"content", spelling(id)},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", false},
                      {"special", !user}});
    }
    return list;
  }

  Json around() const {
    if (p_.prefix.empty() && p_.suffix.empty()) return nullptr;
    Json single = Json::array(), tokens = Json::object();
    const auto put = [&](const std::vector<int32_t>& ids) {
      for (const int32_t id : ids) {
        const std::string name = spelling(static_cast<size_t>(id));
        single.push_back({{"SpecialToken", {{"id", name}, {"type_id", 0}}}});
        tokens[name] = {{"id", name}, {"ids", {id}}, {"tokens", {name}}};
      }
    };
    put(p_.prefix);
    single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
    put(p_.suffix);
    Json pair = single;
    pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
    return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
  }

  Json vocab() const {
    Json out = Json::object();
    for (size_t id = 0; id < p_.types.size(); ++id) out[spelling(id)] = id;
    return out;
  }

  void byte_pairs() {
    const PreTokenizer* pre = find_pre_tokenizer(v_.pre);  // known: there is a pipeline
    Json steps = Json::array();
    for (const std::string_view rule : pre->rules)
      steps.push_back({{"type", "Split"}, {"pattern", {{"Regex", rule}}}, {"behavior", "Isolated"}, {"invert", false}});
    const Json bytes = {
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
    steps.push_back(bytes);
    if (pre->nfc) out_["normalizer"] = {{"type", "NFC"}};
    out_["pre_tokenizer"] = sequence("pretokenizers", std::move(steps));
    out_["decoder"] = bytes;
    Json merges = Json::array();
    for (const std::string_view merge : v_.merges) {
      const size_t space = merge.find(' ', 1);
      merges.push_back({merge.substr(0, space), merge.substr(space + 1)});
    }
    out_["model"] = bpe(std::move(merges), nullptr, false, pre->whole_words_first);
  }

  Json bpe(Json merges, Json unknown, bool fallback, bool whole_words_first) const {
    return {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", std::move(unknown)},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", fallback},
            {"byte_fallback", fallback},
            {"ignore_merges", whole_words_first},
            {"vocab", vocab()},
            {"merges", std::move(merges)}};
  }

  bool has_bytes() const {
    Fallback fallback;
    return find_byte_tokens(p_, fallback);
  }

  void write_spaces() {
    Json normal = Json::array(), back = Json::array();
    if (!v_.charsmap.empty())
      normal.push_back({{"type", "Precompiled"}, {"precompiled_charsmap", to_base64(v_.charsmap)}});
    if (v_.remove_extra_whitespaces) {
      normal.push_back({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}});
      normal.push_back(replaced("Regex", " {2,}", " "));
    }
    if (v_.add_space_prefix) normal.push_back({{"type", "Prepend"}, {"prepend", kSpaceMark}});
    normal.push_back(replaced("String", " ", kSpaceMark));
    back.push_back(replaced("String", kSpaceMark, " "));
    back.push_back({{"type", "ByteFallback"}});
    back.push_back({{"type", "Fuse"}});
    if (v_.add_space_prefix || v_.remove_extra_whitespaces)
      back.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    out_["normalizer"] = sequence("normalizers", std::move(normal));
    out_["decoder"] = sequence("decoders", std::move(back));
  }

  // Every way to make a token of two, those of the greatest score first.
  Json scored_pairs() const {
    std::unordered_map<std::string_view, size_t> ids;
    for (size_t id = 0; id < p_.types.size(); ++id) {
      if (p_.types[id] == TokenType::kNormal) ids.emplace(p_.spellings[id], id);
    }
    struct Merge {
      size_t of, left, right;
    };
    std::vector<Merge> all;
    for (const auto& [token, id] : ids) {
      for (size_t cut = 1; cut < token.size(); ++cut) {
        if ((static_cast<unsigned char>(token[cut]) & 0xC0) == 0x80) continue;
        const auto left = ids.find(token.substr(0, cut)), right = ids.find(token.substr(cut));
        if (left != ids.end() && right != ids.end()) all.push_back(Merge{id, left->second, right->second});
      }
    }
    std::sort(all.begin(), all.end(), [this](const Merge& a, const Merge& b) {
      const float x = v_.scores[a.of], y = v_.scores[b.of];
      return x != y ? x > y : std::tie(a.of, a.left, a.right) < std::tie(b.of, b.left, b.right);
    });
    Json merges = Json::array();
    for (const Merge& merge : all) merges.push_back({spelling(merge.left), spelling(merge.right)});
    Json unknown = nullptr;
    if (v_.unknown >= 0) unknown = spelling(static_cast<size_t>(v_.unknown));
    return bpe(std::move(merges), std::move(unknown), has_bytes(), false);
  }

  Json unigram() const {
    Json list = Json::array();
    for (size_t id = 0; id < p_.types.size(); ++id) list.push_back({spelling(id), v_.scores[id]});
    Json unknown = nullptr;
    if (v_.unknown >= 0) unknown = v_.unknown;
    return {{"type", "Unigram"}, {"unk_id", unknown}, {"vocab", list}, {"byte_fallback", has_bytes()}};
  }

  void word_piece() {
    bool capitals = false;
    for (size_t id = 0; id < p_.types.size(); ++id) {
      const std::string s = spelling(id);
      capitals = capitals || (is_text(p_.types[id]) && !s.starts_with('[') && !s.starts_with("##") &&
                              std::any_of(s.begin(), s.end(), [](char c) { return c >= 'A' && c <= 'Z'; }));
    }
    const std::string unknown = v_.unknown >= 0 ? spelling(static_cast<size_t>(v_.unknown)) : "[UNK]";
    out_["normalizer"] = {{"type", "BertNormalizer"},
                          {"clean_text", true},
                          {"handle_chinese_chars", true},
                          {"strip_accents", nullptr},
                          {"lowercase", !capitals}};
    out_["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
    out_["decoder"] = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}};
    out_["model"] = {{"type", "WordPiece"},
                     {"unk_token", unknown},
                     {"continuing_subword_prefix", "##"},
                     {"max_input_chars_per_word", 100},
                     {"vocab", vocab()}};
  }

  const Vocabulary& v_;
  const Pipeline& p_;
  Json out_;
};

}  // namespace

Result<std::string> tokenizer_json_of(const Vocabulary& gguf) {
  FOVEA_ASSIGN_OR_RETURN(const Pipeline p, gguf_pipeline(gguf));
  FOVEA_ASSIGN_OR_RETURN(const auto theirs, Tokenizer::create(gguf));
  for (size_t id = 0; id < p.spellings.size(); ++id) {
    if (!is_utf8(p.spellings[id]))
      return make_error(ErrorCode::kUnsupported, "{}: token {} is not UTF-8, which tokenizer.json has to be", gguf.name,
                        id);
  }
  const Json root = Writer(gguf, p).run();
  std::string text = root.dump(1) + "\n";
  Vocabulary files;
  files.name = gguf.name, files.kind = "files", files.files.tokenizer_json = text;
  FOVEA_ASSIGN_OR_RETURN(const auto ours, Tokenizer::create(files));
  FOVEA_ASSIGN_OR_RETURN(const bool same,
                         gives_the_same(*theirs, *ours, probe_texts(*theirs, root["pre_tokenizer"].dump())));
  if (!same)
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: its tokenizer ({}) reads some texts as no tokenizer.json that is written here does",
                             gguf.name, gguf.kind),
                 "tokenizer"};
  return text;
}

}  // namespace fovea::tokenizers
