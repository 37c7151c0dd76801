// A head profile from its file: {"version": 1, "model_sha256": ..., "heads": [{"layer": 0, "head": 0,
// "retrieval": 0.4, ...}, ...]}, and where there is such a column "kv_heads" (layer, kv_head), "layers" (layer) and
// "model" (an object). Every other number of an entry is its value of the column of that name.
#pragma once

#include <memory>
#include <string>

#include "fovea/attention/shape.h"
#include "fovea/base/result.h"
#include "fovea/engine/model.h"
#include "fovea/tensor/adapters.h"

namespace fovea::engine {

// kData if it is no profile, of another version, or of another model than this one with these adapters.
Result<std::shared_ptr<const attention::HeadProfile>> read_head_profile(const std::string& path, const Model& model,
                                                                        const tensor::Adapters* adapters = nullptr);

// The same from text, for a model of this shape; `name` starts every message. The hash is only read.
Result<attention::HeadProfile> parse_head_profile(const std::string& text, const std::string& name,
                                                  const attention::ModelShape& shape);

}  // namespace fovea::engine
