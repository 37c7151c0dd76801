#include "fovea/train/nets/net.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/utf8.h"
#include "fovea/formats/hf_folder.h"
#include "fovea/formats/hf_keys.h"
#include "fovea/formats/key_source.h"
#include "fovea/models/support/config.h"

namespace fovea::train {
namespace {

using Json = nlohmann::ordered_json;

class NetSource final : public formats::KeySource {
 public:
  NetSource(formats::HfConfig config, std::vector<FolderFile> tokenizer, const std::string& name)
      : config_(std::move(config)), tokenizer_(std::move(tokenizer)) {
    name_ = name;
  }
  const formats::KeyMap& keys() const override { return config_.keys; }

  bool has_vocabulary() const override { return !tokenizer_.empty(); }
  Result<tokenizers::Vocabulary> vocabulary() const override {
    tokenizers::Vocabulary v;
    v.name = name();
    v.kind = "files";
    for (const FolderFile& file : tokenizer_) {
      for (const auto& [known, member] : formats::kTokenizerFiles) {
        if (file.name == known && (v.files.*member).empty()) v.files.*member = file.content;
      }
    }
    return v;
  }
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

nlohmann::ordered_json decoder_config(Settings& s, const Net::Context& context) {
  using Sizes = models::ModelSizes;
  const int64_t d_model = s.integer("d_model", std::nullopt, 1, Sizes::kMaxWidth);
  const int64_t heads = s.integer("n_heads", std::nullopt, 1, Sizes::kMaxHeads);
  const int64_t kv_heads = s.integer("n_kv_heads", heads, 1, Sizes::kMaxHeads);
  const int64_t head_dim = s.integer("head_dim", std::max<int64_t>(1, d_model / heads), 1, Sizes::kMaxHeadDim);
  std::optional<int64_t> vocab;
  if (context.vocab_size > 0) vocab = context.vocab_size;
  if (s.good() && !s.json().contains("head_dim") && d_model % heads != 0)
    s.wrong("n_heads", "does not divide d_model; with head_dim it need not");
  if (s.good() && heads % kv_heads != 0) s.wrong("n_kv_heads", "does not divide n_heads");
  return {{"hidden_size", d_model},
          {"intermediate_size", s.integer("d_ff", 4 * d_model, 1, Sizes::kMaxWidth)},
          {"num_hidden_layers", s.integer("n_layers", std::nullopt, 1, Sizes::kMaxLayers)},
          {"num_attention_heads", heads},
          {"num_key_value_heads", kv_heads},
          {"head_dim", head_dim},
          {"vocab_size", s.integer("vocab_size", vocab, 2, Sizes::kMaxVocab)},
          {"max_position_embeddings", s.integer("n_ctx", context.context, 1, Sizes::kMaxContext)},
          {"rms_norm_eps", s.number("norm_eps", 1e-5, 1e-12, 1)},
          {"rope_theta", s.number("rope_theta", 10000, 1, 1e12)},
          {"tie_word_embeddings", s.flag("tied", false)},
          {"hidden_act", "silu"},
          {"initializer_range", 0.02},
          {"bos_token_id", nullptr},
          {"eos_token_id", nullptr},
          {"torch_dtype", "float32"}};
}

Result<std::vector<FolderFile>> tokenizer_files(const std::string& from) {
  if (from == "bytes")
    return std::vector<FolderFile>{{"tokenizer.json", byte_tokenizer()},
                                   {"tokenizer_config.json", "{\"tokenizer_class\": \"PreTrainedTokenizerFast\"}\n"}};
  std::vector<FolderFile> out;
  for (const auto& file : formats::kTokenizerFiles) {
    const std::string path = from + "/" + file.first;
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) continue;
    FOVEA_ASSIGN_OR_RETURN(std::string content, read_file(path, formats::HfFolder::kMaxTokenizerBytes));
    if (content.empty()) return make_error(ErrorCode::kData, "{}: the file is empty", quote(path, 4096));
    out.push_back({file.first, std::move(content)});
  }
  if (out.empty())
    return make_error(ErrorCode::kNotFound, "{}: there are no files of a tokenizer; \"bytes\" needs none",
                      quote(from, 4096));
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
