// A model file made ready to run: checked, bound to its family, weights repacked.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/formats/source.h"
#include "fovea/models/family.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::engine {

struct ModelOptions {
  // Bytes that repacked weights may take; weights past it are repacked on the fly at every use.
  uint64_t repack_bytes = UINT64_MAX;
  // Each weight is repacked when it is used again, not here: the first token of a short prompt comes sooner.
  bool repack_late = false;
  // What they are repacked for; other sessions repack on the fly. Exact arithmetic reads the file's own blocks of
  // quantised weights.
  kernels::Numerics repack_for = kernels::Numerics::kFast;
  std::function<void(uint64_t done, uint64_t total)> progress;  // bytes of weights seen
  const std::atomic<bool>* cancel = nullptr;                    // looked at between weights: kCancelled
  std::optional<kernels::DType> quantize = {};                  // weights become of this type; see open_quantized
};

class Model {
 public:
  static Result<std::shared_ptr<const Model>> load(const std::string& path, const ModelOptions& options = {});

  const std::string& path() const { return path_; }
  const formats::ModelSource& source() const { return *source_; }
  const models::Family& family() const { return *family_; }
  const models::Config& config() const { return family_->config(); }
  const attention::ModelShape& shape() const { return family_->config().shape; }
  // By its name in GGUF files or in Hugging Face folders, for adapters; kUsage if this model has none of that name.
  Result<const tensor::Weight*> weight(std::string_view name) const;
  std::vector<tensor::Parameter> parameters() const { return family_->weights(); }  // the table, with its weights
  uint64_t repack_budget() const { return repack_budget_; }
  uint64_t packed_bytes() const { return packed_bytes_; }  // with those still to be made
  // Made at first use, by whichever thread comes first: what only runs ids needs none.
  Result<std::shared_ptr<const tokenizers::Tokenizer>> tokenizer() const;
  // How fast products read the weights; kFloats if none is read as integer codes. Where they differ, kInt8.
  kernels::WeightForm form() const { return form_; }
  // Of the file; of a model in several, of the list of theirs. Remembered from run to run (user_cache.h). kIo if a
  // file is not what was loaded.
  Result<std::string> sha256() const;

 private:
  std::string path_;
  std::shared_ptr<const formats::ModelSource> source_;
  std::unique_ptr<models::Family> family_;
  std::vector<std::vector<std::byte>> vectors_;  // norms and biases, as they are in the file
  uint64_t repack_budget_ = 0, packed_bytes_ = 0;
  kernels::WeightForm form_ = kernels::WeightForm::kFloats;
  mutable std::once_flag tokenizer_once_;
  mutable std::optional<Result<std::shared_ptr<const tokenizers::Tokenizer>>> tokenizer_;
};

}  // namespace fovea::engine
