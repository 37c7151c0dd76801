// From a family's table to views of the file's bytes.
#pragma once

#include "fovea/base/result.h"
#include "fovea/formats/gguf.h"
#include "fovea/models/family.h"

namespace fovea::models {

// kData if the tensor is missing (and not optional) or of another shape; kUnsupported if Fovea does
// not multiply with its type.
Status check_weight(const formats::Gguf& gguf, const WeightSpec& spec);
// Points every weight of the family at the file; the file must outlive it.
Status bind_weights(const formats::Gguf& gguf, Family& family);

}  // namespace fovea::models
