// A model as a GGUF file in memory: a folder that was converted, weights of another type.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "fovea/formats/gguf.h"

namespace fovea::engine {

// A GGUF file as it is; a folder as `fovea convert` would write it, which takes the memory that its weights take.
Result<std::shared_ptr<const formats::Gguf>> open_as_gguf(const std::string& path,
                                                          const std::atomic<bool>* cancel = nullptr);
// The same with weights of `type`, byte for byte as `fovea quantize` writes it.
Result<std::shared_ptr<const formats::Gguf>> open_quantized(const std::string& path, kernels::DType type,
                                                            const std::atomic<bool>* cancel = nullptr);

}  // namespace fovea::engine
