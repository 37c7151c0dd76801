// A Hugging Face folder as it was downloaded (docs/hf-folders.md): config.json, safetensors in one file or in shards,
// the files of its tokenizer. Nothing of it is run or unpickled, and no link leads out of it but those of the hub's
// cache, from snapshots/ to blobs/.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/formats/hf_keys.h"
#include "fovea/formats/hf_weights.h"
#include "fovea/formats/source.h"

namespace fovea::formats {

// Keys of what the files of sentence-transformers say besides the pooling: the most tokens of a text; a step between
// the model and its vectors that is neither pooling nor norm.
inline constexpr std::string_view kSentenceTokens = "sentence.max_tokens", kSentenceModule = "sentence.module";

class HfFolder final : public ModelSource {
 public:
  static constexpr uint64_t kMaxConfigBytes = uint64_t{4} << 20, kMaxIndexBytes = uint64_t{64} << 20,
                            kMaxTokenizerBytes = uint64_t{512} << 20;
  static constexpr size_t kMaxShards = 1'000;  // as many files may be mapped at once

  static Result<std::shared_ptr<const HfFolder>> open(const std::string& folder, const SourceOptions& options = {});
  // The folder that `path` names: itself, or the one that holds this config.json, index or .safetensors. Nothing for
  // what is no such thing.
  static std::optional<std::string> folder_of(const std::string& path);

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

  Result<tokenizers::Vocabulary> vocabulary() const override;
  tensor::RopePairing rope_pairing(const tensor::StoredPairing& of_family) const override { return of_family.hf; }
  int64_t block_of(std::string_view tensor) const override;
  const std::string& name_of(const tensor::Parameter& p) const override {
    return is_packed(p) ? p.hf_packed_name : p.hf_name;
  }
  const tensor::Stored& stored(const tensor::Parameter& p) const override { return is_packed(p) ? p.hf_packed : p.hf; }
  uint64_t count_bad_scales(const TensorInfo& tensor) const override { return weights_.count_bad_scales(tensor); }

 private:
  friend class HfReader;
  bool is_packed(const tensor::Parameter& p) const {
    return !p.hf_packed_name.empty() && !find_tensor(p.hf_name) && find_tensor(p.hf_packed_name);
  }
  HfFolder() = default;
  Result<std::optional<Made>> make(const TensorInfo& tensor) const override { return weights_.make(tensor); }

  HfConfig config_;
  HfWeights weights_;
  tokenizers::TokenizerFiles tokenizer_;
};

}  // namespace fovea::formats
