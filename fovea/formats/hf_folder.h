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
#include "fovea/formats/key_source.h"

namespace fovea::formats {

// Keys of what the files of sentence-transformers say besides the pooling: the most tokens of a text; a step between
// the model and its vectors that is neither pooling nor norm.
inline constexpr std::string_view kSentenceTokens = "sentence.max_tokens", kSentenceModule = "sentence.module";

class HfFolder final : public KeySource {
 public:
  static constexpr uint64_t kMaxConfigBytes = uint64_t{4} << 20, kMaxIndexBytes = uint64_t{64} << 20,
                            kMaxTokenizerBytes = uint64_t{512} << 20;
  static constexpr size_t kMaxShards = 1'000;  // as many files may be mapped at once

  static Result<std::shared_ptr<const HfFolder>> open(const std::string& folder, const SourceOptions& options = {});
  // The folder that `path` names: itself, or the one that holds this config.json, index or .safetensors. Nothing for
  // what is no such thing.
  static std::optional<std::string> folder_of(const std::string& path);

  const KeyMap& keys() const override { return config_.keys; }
  // Numbers as GGUF files hold them, float32, so that both forms of a model give the same bits.
  Result<double> get_f64(std::string_view key) const override;

  // Tensors that are no weights of what runs here (a vision tower, heads of other tasks), by their names in the files.
  const std::vector<std::string>& left_out() const { return left_out_; }

  bool has_vocabulary() const override;
  Result<tokenizers::Vocabulary> vocabulary() const override;
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
  std::vector<std::string> left_out_;
  tokenizers::TokenizerFiles tokenizer_;
  std::string empty_file_;  // of the tokenizer, where nothing stood before it that is read instead
};

}  // namespace fovea::formats
