// What a run leaves: an ordinary model that every command opens.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "fovea/base/result.h"
#include "fovea/train/model.h"

namespace fovea::train {

// OUT/model, a Hugging Face folder; of a GGUF file OUT/model.gguf; of LoRAs OUT/model, a PEFT folder; of a soft prompt
// OUT/soft_prompt.safetensors, of masks OUT/masks.safetensors. -> its path. `training` says how it was made: "fovea" of
// config.json, the key fovea.training of a GGUF file or of the metadata of those two, fovea.json beside LoRAs. What was
// there before stays until all of it is written.
Result<std::string> save_model(const TrainedModel& model, const std::string& out,
                               const nlohmann::ordered_json& training);

}  // namespace fovea::train
