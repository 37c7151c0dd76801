#include "fovea/engine/masks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "fovea/base/bytes.h"
#include "fovea/base/mapped_file.h"
#include "fovea/engine/lora.h"  // row_in_adapter
#include "fovea/formats/safetensors.h"
#include "fovea/kernels/dtype.h"
#include "fovea/kernels/matmul.h"  // dequantize

namespace fovea::engine {

using tensor::Parameter;
using tensor::Tensor;

Status add_masks(const Model& model, const std::string& path, tensor::Adapters& out) {
  const std::string where = quote(path, 4096);
  FOVEA_ASSIGN_OR_RETURN(const auto file, MappedFile::open(path));
  FOVEA_ASSIGN_OR_RETURN(const formats::Safetensors read, formats::parse_safetensors(file->bytes(), path));
  const std::vector<Parameter> table = model.parameters();
  for (const formats::TensorInfo& one : read.tensors) {
    const auto p = std::find_if(table.begin(), table.end(), [&](const Parameter& parameter) {
      return parameter.target->defined() && (parameter.name == one.name || parameter.hf_name == one.name);
    });
    if (p == table.end())
      return make_error(ErrorCode::kData, "{}: tensor {} masks a weight that {} does not have", where, quote(one.name),
                        model.source().name());
    const int64_t rows = p->target->rows(), cols = p->target->cols();
    const bool pair = one.dims.size() == 2 && one.dims[0] > 0 && kernels::dtype_info(one.dtype).native;
    const bool whole = pair && one.dims[0] == cols && one.dims[1] == rows;
    if (rows < 2 || p->gguf.n_slices > 0 || !(whole || (pair && one.dims[1] == 1 && cols % one.dims[0] == 0)))
      return make_error(ErrorCode::kData, "{}: tensor {} is [{}] of {}, and masks a weight [{}, {}]", where,
                        quote(one.name), fmt::join(one.dims.rbegin(), one.dims.rend(), ", "),
                        kernels::dtype_info(one.dtype).name, rows, cols);
    Tensor in_file = Tensor::empty({one.dims[1], one.dims[0]});
    kernels::dequantize(one.dtype, one.data.data(), in_file.elements(), in_file.data());
    if (!std::all_of(in_file.values().begin(), in_file.values().end(), [](float x) { return std::isfinite(x); }))
      return make_error(ErrorCode::kData, "{}: tensor {} has values that are not numbers (NaN or Inf)", where,
                        quote(one.name));
    Tensor values = in_file;
    if (whole) {
      values = Tensor::empty({rows, cols});
      for (int64_t r = 0; r < rows; ++r)
        std::copy_n(in_file.data() + row_in_adapter(r, *p, model.source(), model.config(), /*peft=*/true) * cols, cols,
                    values.data() + r * cols);
    }
    if (Status added = out.add(*p->target, tensor::Mask{.values = values}); !added)
      return make_error(ErrorCode::kData, "{}: {}", where, added.error().message);
  }
  return file->check_intact();
}

}  // namespace fovea::engine
