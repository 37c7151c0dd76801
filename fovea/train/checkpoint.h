// What a run goes on from. In FOLDER: step-N.safetensors, and state.json, which names it and is written last: at every
// moment state.json is the whole of one checkpoint, whatever ended the program.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tensor/tensor.h"

namespace fovea::train {

using NamedTensors = std::vector<std::pair<std::string, tensor::Tensor>>;

// `state` gets "tensors" and "sha256" of the file. kIo says what is wrong, and the last checkpoint is as it was.
Status save_checkpoint(const std::string& folder, int64_t step, const NamedTensors& tensors,
                       nlohmann::ordered_json state);
// state.json; nothing if there is no checkpoint. kData if it is none.
Result<std::optional<nlohmann::ordered_json>> read_checkpoint(const std::string& folder);
// Its values into `tensors`, after all of them were checked: kData for a file that is cut or changed, a tensor that is
// missing, left over or of another shape.
Status load_tensors(const std::string& folder, const nlohmann::ordered_json& state, const NamedTensors& tensors);

}  // namespace fovea::train
