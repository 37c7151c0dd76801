// Weights of a folder that are not what kernels read: 8-bit floats with their scales, MXFP4 in two tensors, float64,
// and data at odd addresses.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/formats/source.h"

namespace fovea::formats {

class HfWeights {
 public:
  // Takes the scales out of `tensors`; "x_blocks" with "x_scales" becomes one tensor "x_blocks" of MXFP4. `config` is
  // config.json, whose quantization_config says how weights are quantised; kUnsupported names a way that is not read.
  // kData: scales that do not fit.
  static Result<HfWeights> pair(std::vector<TensorInfo>& tensors, const nlohmann::ordered_json& config,
                                const std::string& name);

  // Nothing if it can be read as it lies. An 8-bit float becomes bfloat16 where that holds it exactly (without scales,
  // or with powers of two), else float32.
  Result<std::optional<Made>> make(const TensorInfo& tensor) const;
  // Scales of it that are NaN or Inf.
  uint64_t count_bad_scales(const TensorInfo& tensor) const;

 private:
  struct Scales {
    TensorInfo tensor;
    std::span<const std::byte> blocks;       // of MXFP4: the codes
    int64_t block_rows = 0, block_cols = 0;  // that share one
  };
  std::map<std::string, Scales, std::less<>> scales_;  // by the tensor that they belong to
};

}  // namespace fovea::formats
