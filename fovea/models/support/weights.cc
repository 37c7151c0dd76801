#include "fovea/models/support/weights.h"

#include <fmt/format.h>

#include <optional>
#include <set>
#include <utility>

#include "fovea/attention/method.h"
#include "fovea/models/support/rope.h"

namespace fovea::models {
namespace {

using formats::ModelSource;
using tensor::Parameter;

// What the table has no row for: one problem for all uncounted blocks, one for the rest.
void add_strays(const ModelSource& source, const std::vector<Parameter>& table, const Config& config,
                std::vector<Error>& out) {
  std::set<std::string_view> known(rope_tensors().begin(), rope_tensors().end());
  for (const Parameter& p : table) known.insert(source.name_of(p));
  std::set<int64_t> blocks;
  std::vector<std::string_view> strays;
  for (const formats::TensorInfo& tensor : source.tensors()) {
    if (known.count(tensor.name)) continue;
    const size_t dot = tensor.name.find('.');  // a method's own weights are bound where it runs
    if (dot != std::string::npos && attention::make_method(std::string_view(tensor.name).substr(0, dot))) continue;
    const int64_t block = source.block_of(tensor.name);
    if (block >= config.shape.n_layers) {
      blocks.insert(block);
    } else {
      strays.push_back(tensor.name);
    }
  }
  if (!blocks.empty()) {
    const std::string key = config.architecture + ".block_count";
    out.push_back({ErrorCode::kData,
                   fmt::format("{}: key \"{}\" counts {} blocks, but there are tensors of {} more, blk.{} the first",
                               source.name(), key, config.shape.n_layers, blocks.size(), *blocks.begin()),
                   key});
  }
  if (!strays.empty()) {
    out.push_back(
        {ErrorCode::kUnsupported,
         fmt::format("{}: the {} family here has no place for tensor {}{}", source.name(), config.architecture,
                     strays[0], strays.size() == 1 ? "" : fmt::format(" and {} more", strays.size() - 1)),
         fmt::format("tensor {}", strays[0])});
  }
}

}  // namespace

Result<std::optional<formats::TensorInfo>> find_weight(const ModelSource& source, const Parameter& p) {
  const auto wrong = [&](ErrorCode code, std::string message) {
    const std::string& name = source.name_of(p);
    return Error{code, fmt::format("{}: tensor {} {}", source.name(), name, message), "tensor " + name};
  };
  FOVEA_ASSIGN_OR_RETURN(auto found, source.find(p));
  if (!found) {
    if (p.optional) return found;
    return wrong(ErrorCode::kData, fmt::format("is missing; it should be [{}]", fmt::join(p.shape, ", ")));
  }
  // One row of a matrix is a vector: files have both.
  if (found->dims.size() == 2 && p.shape.size() == 1 && found->dims[1] == 1) found->dims.pop_back();
  if (found->dims != p.shape) {
    return wrong(ErrorCode::kData, fmt::format("is [{}], but the metadata asks for [{}]", fmt::join(found->dims, ", "),
                                               fmt::join(p.shape, ", ")));
  }
  const kernels::DTypeInfo& info = kernels::dtype_info(found->dtype);
  if (!info.native)
    return wrong(ErrorCode::kUnsupported, fmt::format("is {}, which Fovea does not multiply with", info.name));
  return found;
}

Result<std::unique_ptr<Family>> make_family(const ModelSource& source) {
  FOVEA_ASSIGN_OR_RETURN(const Config config, read_config(source));
  const int head_dim = config.shape.head_dim;
  if (head_dim % 8 != 0 || head_dim > 256) {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: heads are {} wide; multiples of 8 up to 256 run", source.name(), head_dim),
                 config.architecture + ".attention.key_length"};
  }
  return make_family(config);
}

std::vector<Error> bind_weights(const ModelSource& source, Family& family) {
  std::vector<Error> problems;
  const std::vector<Parameter> table = family.weights();
  for (const Parameter& p : table) {
    const auto found = find_weight(source, p);
    if (!found) {
      problems.push_back(found.error());
      continue;
    }
    const auto& tensor = found.value();
    if (!tensor) continue;
    p.target->name = p.name;
    p.target->view = {.dtype = tensor->dtype,
                      .rows = p.shape.size() == 2 ? p.shape[1] : 1,
                      .cols = p.shape[0],
                      .data = tensor->data.data()};
  }
  add_strays(source, table, family.config(), problems);
  return problems;
}

void init_weights(Family& family, uint64_t seed, bool with_optional) {
  for (const Parameter& p : family.weights()) {
    if (p.optional && !with_optional) continue;
    const tensor::Shape shape =
        p.shape.size() == 2 ? tensor::Shape({p.shape[1], p.shape[0]}) : tensor::Shape({p.shape[0]});
    // Slices of one tensor have its name: each is drawn anew.
    const std::string drawn = p.gguf.n_slices > 0 ? fmt::format("{} {}", p.name, p.gguf.slice) : p.name;
    *p.target = tensor::Weight::from(p.name, tensor::draw(p.init, shape, seed, drawn));
  }
}

}  // namespace fovea::models
