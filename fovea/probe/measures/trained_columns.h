// Columns of a head profile that are trained, not measured: weights of a method, one for each head of some kind, which
// `fovea train` left in a copy of the model's file. In the profile of the model itself the method finds them as well.
#pragma once

#include <string>

#include "fovea/base/result.h"
#include "fovea/formats/source.h"
#include "fovea/probe/measures/profile.h"

namespace fovea::probe {

// The file of a profile with what `trained` has: its "duo-attention.gate" as duo_gate. All else stays as it is. kData
// where it has no such weights, or of another shape than the profile's model.
Result<std::string> with_trained_columns(const FoundProfile& profile, const formats::ModelSource& trained);

}  // namespace fovea::probe
