#include "fovea/models/support/weights.h"

#include <fmt/format.h>

namespace fovea::models {

Status check_weight(const formats::Gguf& gguf, const WeightSpec& spec) {
  const formats::TensorInfo* found = gguf.find_tensor(spec.name);
  const auto wrong = [&](ErrorCode code, std::string message) {
    return Error{code, fmt::format("{}: tensor {} {}", gguf.name(), spec.name, message), "tensor " + spec.name};
  };
  if (!found) {
    if (spec.optional) return {};
    return wrong(ErrorCode::kData, fmt::format("is missing; it should be [{}]", fmt::join(spec.dims, ", ")));
  }
  if (found->dims != spec.dims) {
    return wrong(ErrorCode::kData, fmt::format("is [{}], but the metadata asks for [{}]", fmt::join(found->dims, ", "),
                                               fmt::join(spec.dims, ", ")));
  }
  const kernels::DTypeInfo& info = kernels::dtype_info(found->dtype);
  if (!info.native)
    return wrong(ErrorCode::kUnsupported, fmt::format("is {}, which Fovea does not multiply with", info.name));
  return {};
}

Status bind_weights(const formats::Gguf& gguf, Family& family) {
  for (const WeightSpec& spec : family.weights()) {
    FOVEA_RETURN_IF_ERROR(check_weight(gguf, spec));
    const formats::TensorInfo* found = gguf.find_tensor(spec.name);
    if (!found) continue;
    spec.target->name = spec.name;
    spec.target->view = {.dtype = found->dtype,
                         .rows = spec.dims.size() == 2 ? spec.dims[1] : 1,
                         .cols = spec.dims[0],
                         .data = found->data.data()};
  }
  return {};
}

}  // namespace fovea::models
