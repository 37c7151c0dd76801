#include "fovea/engine/convert/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/tokenizers/translate.h"

namespace fovea::engine {
namespace {

using formats::GgufKeys;
using formats::ModelSource;
using tokenizers::TokenizerFiles;
using tokenizers::Vocabulary;
using Json = nlohmann::ordered_json;

constexpr std::string_view kTemplate = "tokenizer.chat_template";

void put_ids(GgufKeys& keys, std::initializer_list<std::pair<const char*, int32_t>> ids) {
  for (const auto& [name, id] : ids) {
    if (id >= 0) keys.put(fmt::format("tokenizer.ggml.{}_token_id", name), static_cast<uint32_t>(id));
  }
}

// A template: "tokenizer.chat_templates" lists the names of those that have one.
std::vector<std::string> template_keys(const ModelSource& source) {
  std::vector<std::string> keys = source.keys_under(kTemplate);
  std::erase_if(keys,
                [](const std::string& key) { return key.size() > kTemplate.size() && key[kTemplate.size()] != '.'; });
  return keys;
}

}  // namespace

Status put_vocabulary(const ModelSource& folder, const models::Config& config, GgufKeys& keys,
                      std::vector<std::string>& notes) {
  for (const std::string& key : template_keys(folder)) {
    FOVEA_ASSIGN_OR_RETURN(const std::string text, folder.get_string(key));
    keys.put(key, std::string_view(text));
  }
  FOVEA_ASSIGN_OR_RETURN(const Vocabulary v, folder.vocabulary());
  const std::string prefix = "tokenizer.ggml.";
  if (!folder.has_vocabulary()) {
    keys.put(prefix + "model", "no_vocab");
    put_ids(keys, {{"bos", v.bos}, {"eos", v.eos}, {"padding", v.padding}});
    notes.push_back("the folder has no tokenizer: the file has no vocabulary");
    return {};
  }
  FOVEA_ASSIGN_OR_RETURN(const auto lists, tokenizers::gguf_lists(v, static_cast<size_t>(config.shape.vocab_size)));
  keys.put(prefix + "model", std::string_view(lists.kind));
  if (!lists.pre.empty()) keys.put(prefix + "pre", std::string_view(lists.pre));
  keys.put(prefix + "tokens", std::span<const std::string>(lists.tokens));
  std::vector<int32_t> types;
  for (const tokenizers::TokenType type : lists.types) types.push_back(static_cast<int32_t>(type));
  keys.put(prefix + "token_type", std::span<const int32_t>(types));
  if (!lists.scores.empty()) keys.put(prefix + "scores", std::span<const float>(lists.scores));
  if (lists.kind == "gpt2") keys.put(prefix + "merges", std::span<const std::string>(lists.merges));
  if (!lists.charsmap.empty()) keys.put_chars(prefix + "precompiled_charsmap", lists.charsmap);
  keys.put(prefix + "add_bos_token", lists.add_bos);
  keys.put(prefix + "add_eos_token", lists.add_eos);
  const bool bert = lists.kind == "bert";
  if (lists.kind == "llama" || lists.kind == "t5") {
    keys.put(prefix + "add_space_prefix", lists.add_space_prefix);
    keys.put(prefix + "remove_extra_whitespaces", lists.remove_extra_whitespaces);
  }
  const auto more = [&](size_t i) { return i < v.more_ends.size() ? v.more_ends[i] : -1; };
  put_ids(keys, {{"bos", lists.bos},
                 {"eos", bert && lists.eos < 0 ? lists.separator : lists.eos},
                 {"eot", more(0)},
                 {"eom", more(1)},
                 {"unknown", lists.unknown},
                 {"padding", lists.padding},
                 {"seperator", lists.separator},  // the format's own spelling
                 {"cls", bert ? lists.bos : -1}});
  if (v.more_ends.size() > 2)
    notes.push_back(fmt::format("of {} tokens that end a text the file names three", v.more_ends.size() + 1));
  return {};
}

Status put_tokenizer_files(const ModelSource& gguf, const models::Config& config, Json& words,
                           std::vector<formats::FolderFile>& files, std::vector<std::string>& notes) {
  Json named = Json::array();
  for (const std::string& key : template_keys(gguf)) {
    FOVEA_ASSIGN_OR_RETURN(const std::string text, gguf.get_string(key));
    if (key == kTemplate) files.push_back({"chat_template.jinja", text});
    named.push_back({{"name", key == kTemplate ? "default" : key.substr(kTemplate.size() + 1)}, {"template", text}});
  }
  const auto ids = [&](int32_t bos, Json eos, int32_t padding) {
    Json generation = Json::object();
    for (Json* to : {&words, &generation}) {
      if (bos >= 0) (*to)["bos_token_id"] = bos;
      if (!eos.is_null()) (*to)["eos_token_id"] = eos;
      if (padding >= 0) (*to)["pad_token_id"] = padding;
    }
    files.push_back({"generation_config.json", generation.dump(2) + "\n"});
  };
  const auto kind = gguf.get_string("tokenizer.ggml.model");
  if (!kind || !gguf.has("tokenizer.ggml.tokens")) {
    const auto id = [&](const char* name) {
      const auto n = gguf.get_u64(fmt::format("tokenizer.ggml.{}_token_id", name));
      return n && *n < static_cast<uint64_t>(config.shape.vocab_size) ? static_cast<int32_t>(*n) : -1;
    };
    ids(id("bos"), id("eos") >= 0 ? Json(id("eos")) : Json(), id("padding"));
    notes.push_back("the file has no vocabulary: the folder has no tokenizer");
    return {};
  }
  FOVEA_ASSIGN_OR_RETURN(const Vocabulary v, gguf.vocabulary());
  FOVEA_ASSIGN_OR_RETURN(std::string content, tokenizers::tokenizer_json_of(v));
  files.push_back({"tokenizer.json", std::move(content)});
  Json eos = Json::array();
  for (const int32_t id : {v.eos, v.eot, v.eom}) {
    if (id >= 0 && std::find(eos.begin(), eos.end(), id) == eos.end()) eos.push_back(id);
  }
  ids(v.bos, eos.empty() ? Json() : eos.size() == 1 ? eos[0] : eos, v.padding);

  Json about = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                {"clean_up_tokenization_spaces", false},
                {"model_max_length", config.shape.n_ctx}};
  const bool bert = v.kind == "bert";
  for (const auto& [name, id] : {std::pair{"bos_token", bert ? -1 : v.bos},
                                 {"eos_token", bert ? -1 : v.eos},
                                 {"unk_token", v.unknown},
                                 {"pad_token", v.padding},
                                 {"cls_token", bert ? v.bos : -1},
                                 {"sep_token", bert ? v.separator : -1}}) {
    if (id >= 0) about[name] = v.tokens[static_cast<size_t>(id)];
  }
  if (named.size() > 1) about["chat_template"] = named;
  files.push_back({"tokenizer_config.json", about.dump(2) + "\n"});
  return {};
}

}  // namespace fovea::engine
