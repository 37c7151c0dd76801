// LoRA adapters of files for the weights of a model: SessionOptions::adapters, or of one sequence
// (Session::set_adapters). The model stays as it is, and any number of sessions and sequences have each their own.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "fovea/base/result.h"
#include "fovea/engine/model.h"
#include "fovea/tensor/adapters.h"

namespace fovea::engine {

struct LoraRequest {
  std::string path;  // formats::LoraFile::open
  double scale = 1;  // what its own is multiplied with; with 0 it is read and changes no bit
};

// All of them at once; null where none changes anything. An adapter of a Hugging Face model also fits its GGUF file and
// the other way round: fused weights and the order of the rows of q and k are those of this model. kData names file and
// tensor that do not fit the model or that it does not have, and errors are those of LoraFile::open. `masks`: a file of
// those too (masks.h); empty: none.
Result<std::shared_ptr<const tensor::Adapters>> load_adapters(const Model& model, std::span<const LoraRequest> loras,
                                                              const std::string& masks = "");

// Where a row of a weight, as the model's files hold it, stands in adapters of PEFT's kind (or GGUF's): files of some
// families hold the rows of q and k so that those which turn together are neighbours.
int64_t row_in_adapter(int64_t row, const tensor::Parameter& p, const formats::ModelSource& source,
                       const models::Config& config, bool peft);

// Of the model with these adapters (null: without): what is kept of one is not used for the other. kUnsupported if the
// adapters have no hash.
Result<std::string> weights_sha256(const Model& model, const tensor::Adapters* adapters);

}  // namespace fovea::engine
