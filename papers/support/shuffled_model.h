// A negative control: a model that is as large and as fast as another, and knows nothing.
#pragma once

#include <atomic>
#include <memory>

#include "fovea/engine/model.h"

namespace fovea::papers {

// The model with the rows of every matrix and the numbers of every vector in random order. Its file, as large as the
// model's, lies in the user's cache, or among temporary files, while the returned model lives. kUnsupported for a model
// in several files.
Result<std::shared_ptr<const engine::Model>> shuffled_model(const engine::Model& model, uint64_t seed,
                                                            const std::atomic<bool>* cancel = nullptr);

}  // namespace fovea::papers
