// The model of a run: a folder, a GGUF file or a net that has no files yet, with what of it is trained as float32
// tensors and the rest as it lies in its files.
#pragma once

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "fovea/attention/attend.h"
#include "fovea/attention/pipeline.h"
#include "fovea/base/result.h"
#include "fovea/formats/source.h"
#include "fovea/models/family.h"
#include "fovea/tensor/adapters.h"
#include "fovea/tokenizers/tokenizer.h"
#include "fovea/train/data/data.h"
#include "fovea/train/nets/net.h"
#include "fovea/train/params.h"

namespace fovea::train {

// Samples of one forward pass, side by side; logits are made where something is wanted alone.
struct MicroBatch {
  explicit MicroBatch(const std::vector<Sample>& samples);
  attention::Batch batch;
  std::vector<int32_t> targets;  // of batch.logit_rows
};

// A LoRA in training: w + scale b a, of one weight.
struct TrainedLora {
  tensor::Parameter of;
  std::string module;  // of Hugging Face's model: "model.layers.0.self_attn.q_proj"
  tensor::Tensor a = {}, b = {};
};

// What of a weight stays: all whose score is over 0.
struct TrainedMask {
  tensor::Parameter of;
  tensor::Tensor scores;  // as the weight, or [1, heads]
};

class TrainedModel {
 public:
  // "model", "trainable", "init_seed", "attention" of the config. What is wrong is kept in the settings where they are
  // at fault.
  static Result<std::unique_ptr<TrainedModel>> open(Settings& config, int64_t context);
  // A model that only answers: the teacher.
  static Result<std::unique_ptr<TrainedModel>> open_frozen(const std::string& path, int64_t context);

  const std::vector<Param>& params() const { return params_; }
  const tensor::Adapters* adapters() const { return loras_.empty() && masks_.empty() ? nullptr : &adapters_; }
  const tokenizers::Tokenizer* tokenizer() const { return tokenizer_.get(); }
  const std::string& no_tokenizer() const { return no_tokenizer_; }  // why, if there is none
  const models::Config& config() const { return family_->config(); }
  int64_t context() const { return context_; }  // tokens of a sample at most: some models have angles that go by it
  attention::HookMap hooks() const { return family_->hooks(); }

  struct Pass {
    bool recompute = false;
    const std::atomic<bool>* cancel = nullptr;  // throws attention::Cancelled
  };
  // -> logits of batch.logit_rows, under the Exec of who calls. The hooks must live until backward.
  tensor::Tensor forward(const MicroBatch& batch, attention::Hooks& hooks, const Pass& pass) const;

  // What save_model() writes from.
  const models::Family& family() const { return *family_; }
  std::vector<tensor::Parameter> table() const;  // of the family, and under their methods' names theirs
  const formats::ModelSource& source() const { return *source_; }
  const std::string& path() const { return path_; }  // empty: a net
  const nlohmann::ordered_json& net_config() const { return net_config_; }
  const std::vector<FolderFile>& net_files() const { return net_files_; }
  const std::vector<TrainedLora>& loras() const { return loras_; }
  double lora_scale() const { return lora_scale_; }
  const std::vector<TrainedMask>& masks() const { return masks_; }
  double mask_temperature() const { return mask_temperature_; }
  const tensor::Tensor& soft_prompt() const { return soft_prompt_; }  // [n, d_model]; undefined: none

 private:
  TrainedModel() = default;
  Status open_files(const std::string& path);
  Status open_net(Settings& net, int64_t context, uint64_t seed);
  Status open_tokenizer();
  Status choose(Settings& config);
  Status choose_loras(Settings& lora, uint64_t seed);
  Status begin_from(const std::string& folder);
  Status choose_masks(Settings& masks);
  Status choose_soft_prompt(Settings& prompt, uint64_t seed);
  Status train_values(const std::vector<std::string>& globs, const std::string& what);

  std::string path_;
  int64_t context_ = 0;
  std::shared_ptr<const formats::ModelSource> source_;
  std::unique_ptr<models::Family> family_;
  nlohmann::ordered_json net_config_;
  std::vector<FolderFile> net_files_;
  std::shared_ptr<const tokenizers::Tokenizer> tokenizer_;
  std::string no_tokenizer_;
  mutable attention::Pipeline pipeline_;
  std::vector<Param> params_;
  std::vector<TrainedLora> loras_;
  tensor::Adapters adapters_;
  double lora_scale_ = 1;
  std::vector<TrainedMask> masks_;
  double mask_temperature_ = 1;
  tensor::Tensor soft_prompt_;
};

}  // namespace fovea::train
