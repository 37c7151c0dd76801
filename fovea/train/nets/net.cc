#include "fovea/train/nets/net.h"

#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/utf8.h"
#include "fovea/formats/hf_folder.h"
#include "fovea/formats/hf_keys.h"

namespace fovea::train {
namespace {

using Json = nlohmann::ordered_json;
using tokenizers::TokenizerFiles;

constexpr std::pair<const char*, std::string_view TokenizerFiles::*> kFiles[] = {
    {"tokenizer.json", &TokenizerFiles::tokenizer_json},
    {"tokenizer.model", &TokenizerFiles::tokenizer_model},
    {"vocab.json", &TokenizerFiles::vocab_json},
    {"merges.txt", &TokenizerFiles::merges_txt},
    {"vocab.txt", &TokenizerFiles::vocab_txt},
    {"tokenizer_config.json", &TokenizerFiles::tokenizer_config},
    {"special_tokens_map.json", &TokenizerFiles::special_tokens_map},
    {"added_tokens.json", &TokenizerFiles::added_tokens}};

class NetSource final : public formats::ModelSource {
 public:
  NetSource(formats::HfConfig config, std::vector<FolderFile> tokenizer, const std::string& name)
      : config_(std::move(config)), tokenizer_(std::move(tokenizer)) {
    name_ = name;
  }
  bool has(std::string_view key) const override { return config_.keys.has(key); }
  std::vector<std::string> keys_under(std::string_view prefix) const override {
    return config_.keys.keys_under(prefix);
  }
  Result<uint64_t> get_u64(std::string_view key) const override { return config_.keys.get_u64(key); }
  Result<int64_t> get_i64(std::string_view key) const override { return config_.keys.get_i64(key); }
  Result<double> get_f64(std::string_view key) const override { return config_.keys.get_f64(key); }
  Result<bool> get_bool(std::string_view key) const override { return config_.keys.get_bool(key); }
  Result<std::string> get_string(std::string_view key) const override { return config_.keys.get_string(key); }
  Result<std::vector<std::string_view>> get_strings(std::string_view key) const override {
    return config_.keys.get_strings(key);
  }
  Result<std::vector<double>> get_f64s(std::string_view key) const override { return config_.keys.get_f64s(key); }
  Result<std::vector<int64_t>> get_i64s(std::string_view key) const override { return config_.keys.get_i64s(key); }
  std::string text_of(std::string_view key) const override { return config_.keys.text_of(key); }

  Result<tokenizers::Vocabulary> vocabulary() const override {
    tokenizers::Vocabulary v;
    v.name = name();
    v.kind = "files";
    for (const FolderFile& file : tokenizer_) {
      for (const auto& [known, member] : kFiles) {
        if (file.name == known) v.files.*member = file.content;
      }
    }
    return v;
  }
  tensor::RopePairing rope_pairing(const tensor::StoredPairing& of_family) const override { return of_family.hf; }
  int64_t block_of(std::string_view) const override { return -1; }
  const std::string& name_of(const tensor::Parameter& p) const override { return p.hf_name; }
  const tensor::Stored& stored(const tensor::Parameter& p) const override { return p.hf; }

 private:
  formats::HfConfig config_;
  std::vector<FolderFile> tokenizer_;
};

// Byte-level pairs without any: the character that GPT-2's table has for byte i is token i.
std::string byte_tokenizer() {
  std::array<uint32_t, 256> characters{};
  uint32_t next = 256;
  for (uint32_t b = 0; b < 256; ++b) {
    const bool shown = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
    characters[b] = shown ? b : next++;
  }
  Json vocab = Json::object();
  for (uint32_t b = 0; b < 256; ++b) {
    std::string spelling;
    append_utf8(spelling, characters[b]);
    vocab[spelling] = b;
  }
  const Json level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
  const Json model = {{"type", "BPE"},     {"dropout", nullptr},      {"unk_token", nullptr},
                      {"fuse_unk", false}, {"byte_fallback", false},  {"continuing_subword_prefix", nullptr},
                      {"vocab", vocab},    {"merges", Json::array()}, {"end_of_word_suffix", nullptr}};
  const Json all = {
      {"version", "1.0"},      {"truncation", nullptr},  {"padding", nullptr},        {"added_tokens", Json::array()},
      {"normalizer", nullptr}, {"pre_tokenizer", level}, {"post_processor", nullptr}, {"decoder", level},
      {"model", model}};
  return all.dump(1) + "\n";
}

}  // namespace

Result<std::vector<FolderFile>> tokenizer_files(const std::string& from) {
  if (from == "bytes")
    return std::vector<FolderFile>{{"tokenizer.json", byte_tokenizer()},
                                   {"tokenizer_config.json", "{\"tokenizer_class\": \"PreTrainedTokenizerFast\"}\n"}};
  std::vector<FolderFile> out;
  for (const auto& file : kFiles) {
    const std::string path = from + "/" + file.first;
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) continue;
    FOVEA_ASSIGN_OR_RETURN(std::string content, read_file(path, formats::HfFolder::kMaxTokenizerBytes));
    out.push_back({file.first, std::move(content)});
  }
  if (out.empty())
    return make_error(ErrorCode::kNotFound, "{}: there are no files of a tokenizer; \"bytes\" needs none",
                      fovea::quoted(from, 4096));
  return out;
}

Result<std::shared_ptr<const formats::ModelSource>> source_of(const Json& config, std::vector<FolderFile> tokenizer,
                                                              const std::string& name) {
  FOVEA_ASSIGN_OR_RETURN(formats::HfConfig translated, formats::translate_config(config, name));
  translated.keys.put("general.type", "net", name);
  return std::shared_ptr<const formats::ModelSource>(
      std::make_shared<NetSource>(std::move(translated), std::move(tokenizer), name));
}

}  // namespace fovea::train
