// Masks in a file, as fovea train learns them: factors of a model's weights under their names, [rows, cols] each; or
// [1, n], one for each of n runs of columns, as the heads of an output matrix are.
#pragma once

#include <string>

#include "fovea/base/result.h"
#include "fovea/engine/model.h"
#include "fovea/tensor/adapters.h"

namespace fovea::engine {

// Each tensor of the file for the weight of its name, with rows in the order of the Hugging Face model. kData naming
// file and tensor for one that the model does not have, of another shape, or with values that are not numbers.
Status add_masks(const Model& model, const std::string& path, tensor::Adapters& out);

}  // namespace fovea::engine
