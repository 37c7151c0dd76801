// From a model file, or from a seed, to a family that is ready to run.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/formats/source.h"
#include "fovea/models/family.h"

namespace fovea::models {

// The family that the metadata ask for, without weights; refuses what read_config refuses, and heads
// that the kernels do not run.
Result<std::unique_ptr<Family>> make_family(const formats::ModelSource& source);

// The tensor of a parameter, where it is one that runs; empty if it may be absent and is. kData or kUnsupported else.
Result<std::optional<formats::TensorInfo>> find_weight(const formats::ModelSource& source, const tensor::Parameter& p);

// Points every weight of the family at the file, which must outlive it. Every problem, not only the
// first; empty: it can run. A tensor is kData if it is missing (and not optional) or of another shape
// or in a block that the metadata do not count, kUnsupported if Fovea does not multiply with its type
// or neither the family nor a method has a place for it: to leave it out would change the maths.
std::vector<Error> bind_weights(const formats::ModelSource& source, Family& family);

// Makes every weight of the family anew, as its table says: float32 to train. One seed gives the same bits on any
// number of threads. Optional weights are made only where asked for: a family without them ties or leaves out what they
// hold.
void init_weights(Family& family, uint64_t seed, bool with_optional = false);

}  // namespace fovea::models
