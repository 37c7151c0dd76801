#include "fovea/engine/soft_prompt.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "fovea/base/bytes.h"
#include "fovea/base/mapped_file.h"
#include "fovea/formats/safetensors.h"
#include "fovea/formats/safetensors_writer.h"
#include "fovea/kernels/dtype.h"
#include "fovea/kernels/matmul.h"  // dequantize

namespace fovea::engine {
namespace {

constexpr const char* kPromptRows = "prompt_embeddings";

}  // namespace

Result<Tensor> read_soft_prompt(const std::string& path, const attention::ModelShape& model) {
  const std::string where = quote(path, 4096);
  FOVEA_ASSIGN_OR_RETURN(const auto file, MappedFile::open(path));
  FOVEA_ASSIGN_OR_RETURN(const formats::Safetensors read, formats::parse_safetensors(file->bytes(), path));
  const auto found = std::find_if(read.tensors.begin(), read.tensors.end(),
                                  [](const formats::TensorInfo& tensor) { return tensor.name == kPromptRows; });
  if (found == read.tensors.end())
    return make_error(ErrorCode::kData, "{}: it has no {}, and is no soft prompt", where, kPromptRows);
  if (found->dims.size() != 2 || found->dims[0] != model.d_model || found->dims[1] < 1 ||
      found->dims[1] >= model.n_ctx || !kernels::dtype_info(found->dtype).native)
    return make_error(ErrorCode::kData, "{}: {} is [{}] of {}; for this model it is 1 to {} rows of {} numbers", where,
                      kPromptRows, fmt::join(found->dims.rbegin(), found->dims.rend(), ", "),
                      kernels::dtype_info(found->dtype).name, model.n_ctx - 1, model.d_model);
  Tensor rows = Tensor::empty({found->dims[1], found->dims[0]});
  kernels::dequantize(found->dtype, found->data.data(), rows.elements(), rows.data());
  FOVEA_RETURN_IF_ERROR(file->check_intact());
  if (!std::all_of(rows.values().begin(), rows.values().end(), [](float x) { return std::isfinite(x); }))
    return make_error(ErrorCode::kData, "{}: {} has values that are not numbers (NaN or Inf)", where, kPromptRows);
  return rows;
}

Status write_soft_prompt(const std::string& path, const Tensor& rows,
                         const std::map<std::string, std::string>& metadata) {
  const formats::SafeTensor header{kPromptRows, formats::SafeDtype::kF32, {rows.dim(0), rows.dim(1)}};
  FOVEA_ASSIGN_OR_RETURN(auto file, formats::SafetensorsWriter::create(path, {header}, metadata));
  FOVEA_RETURN_IF_ERROR(file.write(rows.values()));
  return file.commit();
}

Status feed_soft_prompt(Session& session, SequenceId sequence, const Tensor& rows, const std::atomic<bool>* cancel) {
  const std::vector<int32_t> names(static_cast<size_t>(rows.dim(0)), 0);
  const Session::Feed feed{sequence, names, Session::Logits::kNone, attention::Phase::kPrompt, rows};
  const auto fed = session.step({&feed, 1}, cancel);
  return fed ? Status() : fed.error();
}

}  // namespace fovea::engine
