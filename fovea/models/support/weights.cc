#include "fovea/models/support/weights.h"

#include <fmt/format.h>

#include <charconv>
#include <set>
#include <utility>

namespace fovea::models {
namespace {

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

// 7 of "blk.7.attn_q.weight"; -1: of no block.
int64_t block_of(std::string_view tensor) {
  constexpr std::string_view kPrefix = "blk.";
  if (!tensor.starts_with(kPrefix)) return -1;
  int64_t block = -1;
  const char *begin = tensor.data() + kPrefix.size(), *end = tensor.data() + tensor.size();
  const auto [after, error] = std::from_chars(begin, end, block);
  return error == std::errc() && after < end && *after == '.' ? block : -1;
}

// What the table has no row for: one problem for all uncounted blocks, one for the rest.
void add_strays(const formats::Gguf& gguf, const std::vector<WeightSpec>& table, const Config& config,
                std::vector<Error>& out) {
  std::set<std::string_view> known = {kRopeFactors};
  for (const WeightSpec& spec : table) known.insert(spec.name);
  std::set<int64_t> blocks;
  std::vector<std::string_view> strays;
  for (const formats::TensorInfo& tensor : gguf.tensors()) {
    if (known.count(tensor.name)) continue;
    const int64_t block = block_of(tensor.name);
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
                               gguf.name(), key, config.shape.n_layers, blocks.size(), *blocks.begin()),
                   key});
  }
  if (!strays.empty()) {
    out.push_back({ErrorCode::kUnsupported,
                   fmt::format("{}: the {} family here has no place for tensor {}{}", gguf.name(), config.architecture,
                               strays[0], strays.size() == 1 ? "" : fmt::format(" and {} more", strays.size() - 1)),
                   fmt::format("tensor {}", strays[0])});
  }
}

}  // namespace

Result<std::unique_ptr<Family>> make_family(const formats::Gguf& gguf) {
  FOVEA_ASSIGN_OR_RETURN(const Config config, read_config(gguf));
  const int head_dim = config.shape.head_dim;
  if (head_dim % 8 != 0 || head_dim > 256) {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: heads are {} wide; multiples of 8 up to 256 run", gguf.name(), head_dim),
                 config.architecture + ".attention.key_length"};
  }
  return make_family(config);
}

std::vector<Error> bind_weights(const formats::Gguf& gguf, Family& family) {
  std::vector<Error> problems;
  const std::vector<WeightSpec> table = family.weights();
  for (const WeightSpec& spec : table) {
    if (const Status status = check_weight(gguf, spec); !status) {
      problems.push_back(status.error());
      continue;
    }
    const formats::TensorInfo* found = gguf.find_tensor(spec.name);
    if (!found) continue;
    spec.target->name = spec.name;
    spec.target->view = {.dtype = found->dtype,
                         .rows = spec.dims.size() == 2 ? spec.dims[1] : 1,
                         .cols = spec.dims[0],
                         .data = found->data.data()};
  }
  add_strays(gguf, table, family.config(), problems);
  return problems;
}

}  // namespace fovea::models
