// Weights of attention methods: tensors of the model's files under the method's name ("streaming-llm.bias").
#pragma once

#include <set>
#include <string>

#include "fovea/attention/pipeline.h"
#include "fovea/base/result.h"
#include "fovea/formats/source.h"

namespace fovea::engine {

// Gives every parameter of the pipeline's methods that the source has a tensor for its values, as float32; the others
// keep those that the method made: all of a method's or none. kData or kUnsupported for a tensor of another shape or
// type, for one that is missing beside others, and for one under a method's name that the method does not list; and
// what a method says of weights that it cannot use.
Status bind_method_weights(const formats::ModelSource& source, const attention::Pipeline& pipeline);

// The methods under whose names the source has tensors.
std::set<std::string> methods_with_weights(const formats::ModelSource& source);

}  // namespace fovea::engine
