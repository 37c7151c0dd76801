#include "fovea/engine/method_weights.h"

#include "fovea/models/support/weights.h"

namespace fovea::engine {

Status bind_method_weights(const formats::ModelSource& source, const attention::Pipeline& pipeline) {
  for (const auto& method : pipeline.methods()) {
    std::set<std::string> known;
    std::string missing;
    size_t n_found = 0;
    for (tensor::Parameter p : method->parameters()) {
      p.name = p.hf_name = attention::tensor_name(method->info(), p.name);
      p.optional = true;
      FOVEA_ASSIGN_OR_RETURN(const auto found, models::find_weight(source, p));
      known.insert(p.name);
      if (!found) {
        missing = p.name;
        continue;
      }
      ++n_found;
      const bool matrix = p.shape.size() == 2;
      const tensor::Weight in_file{.name = p.name,
                                   .view = {.dtype = found->dtype,
                                            .rows = matrix ? p.shape[1] : 1,
                                            .cols = p.shape[0],
                                            .data = found->data.data()},
                                   .packed = nullptr,
                                   .value = {}};
      *p.target = tensor::Weight::from(p.name, tensor::weight_values(in_file));
    }
    if (n_found > 0 && !missing.empty())
      return make_error(ErrorCode::kData, "{}: it has weights of {}, but not {}", source.name(), method->info().name,
                        missing);
    const std::string prefix = attention::tensor_name(method->info(), "");
    for (const formats::TensorInfo& tensor : source.tensors()) {
      if (tensor.name.starts_with(prefix) && !known.count(tensor.name)) {
        return make_error(ErrorCode::kUnsupported, "{}: {} here has no place for tensor {}", source.name(),
                          method->info().name, tensor.name);
      }
    }
    if (known.empty()) continue;
    if (const Status bound = method->weights_bound(n_found > 0); !bound)
      return make_error(bound.error().code, "{}: {}", method->info().name, bound.error().message);
  }
  return {};
}

std::set<std::string> methods_with_weights(const formats::ModelSource& source) {
  std::set<std::string> out;
  for (const formats::TensorInfo& tensor : source.tensors()) {
    const std::string prefix = tensor.name.substr(0, tensor.name.find('.'));
    if (prefix != tensor.name && attention::make_method(prefix)) out.insert(prefix);
  }
  return out;
}

}  // namespace fovea::engine
