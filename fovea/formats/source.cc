#include "fovea/formats/source.h"

#include <fmt/format.h>

#include <list>
#include <mutex>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/formats/gguf.h"
#include "fovea/formats/hf_folder.h"
#include "fovea/kernels/matmul.h"

namespace fovea::formats {

struct ModelSource::Copies {
  std::mutex mutex;
  std::list<std::vector<std::byte>> values;
  std::map<std::string, Made> made;  // by tensor
};

ModelSource::ModelSource() : copies_(std::make_shared<Copies>()) {}

std::string ModelSource::called(std::string_view key) const { return "key " + quote(key); }

const TensorInfo* ModelSource::find_tensor(std::string_view name) const {
  const auto it = tensor_index_.find(name);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

Result<TensorInfo> ModelSource::readable(const TensorInfo& tensor) const {
  TensorInfo out = tensor;
  const std::lock_guard lock(copies_->mutex);
  auto it = copies_->made.find(tensor.name);
  if (it == copies_->made.end()) {
    FOVEA_ASSIGN_OR_RETURN(auto made, make(tensor));
    if (!made) return out;
    it = copies_->made.emplace(tensor.name, std::move(*made)).first;
  }
  out.dtype = it->second.dtype;
  out.data = it->second.bytes;
  out.bytes = out.data.size();
  return out;
}

Result<std::optional<TensorInfo>> ModelSource::find(const tensor::Parameter& p) const {
  const TensorInfo* found = find_tensor(name_of(p));
  if (!found) return std::optional<TensorInfo>();
  FOVEA_ASSIGN_OR_RETURN(const TensorInfo read, readable(*found));
  const TensorInfo* whole = &read;
  const tensor::Stored& how = stored(p);
  if (how.n_slices == 0 && !how.transposed && how.row_end == 0 && how.plus == 0)
    return std::optional<TensorInfo>(*whole);

  const auto wrong = [&](ErrorCode code, const std::string& what) {
    return Error{code, fmt::format("{}: tensor {} {}", name_, whole->name, what), "tensor " + whole->name};
  };
  const kernels::DTypeInfo& type = kernels::dtype_info(whole->dtype);
  TensorInfo one;
  if (how.n_slices > 0) {
    if (whole->dims.size() < 2 || whole->dims.back() != how.n_slices)
      return wrong(ErrorCode::kData,
                   fmt::format("is [{}], but {} slices are needed", fmt::join(whole->dims, ", "), how.n_slices));
    one = *whole;
    one.bytes = whole->data.size() / static_cast<uint64_t>(how.n_slices);
    one.dims.pop_back();
    if (one.dims[0] % type.block_elements != 0)
      return wrong(ErrorCode::kData, fmt::format("has rows of {}, which are no whole blocks", one.dims[0]));
    one.data = whole->data.subspan(static_cast<uint64_t>(how.slice) * one.bytes, one.bytes);
    whole = &one;
    if (!how.transposed && how.row_end == 0 && how.plus == 0) return std::optional<TensorInfo>(std::move(one));
  }
  TensorInfo out = *whole;
  if (whole->dims.size() > 2 || (how.transposed && whole->dims.size() != 2))
    return wrong(ErrorCode::kData, fmt::format("has {} dimensions", whole->dims.size()));
  if (how.transposed) std::swap(out.dims[0], out.dims[1]);
  int64_t& rows = out.dims.back();  // of a vector, its elements
  const int64_t begin = how.row_begin, end = how.row_end > 0 ? how.row_end : rows;
  if (end > rows) return wrong(ErrorCode::kData, fmt::format("has {} rows, but {} to {} are needed", rows, begin, end));
  if (how.fused_rows > 0 && rows != how.fused_rows)
    return wrong(ErrorCode::kData, fmt::format("has {} rows, but {} are fused in it", rows, how.fused_rows));
  const int64_t period = how.row_period > 0 ? how.row_period : rows;
  if (rows % period != 0 || end > period)
    return wrong(ErrorCode::kData, fmt::format("has {} rows, which are no whole groups of {}", rows, period));
  const int64_t groups = rows / period, kept_rows = end - begin;
  rows = groups * kept_rows;
  const int64_t row = out.dims.size() == 2 ? out.dims[0] : 1;
  const bool whole_blocks = begin * row % type.block_elements == 0 && end * row % type.block_elements == 0;
  if (groups == 1 && !how.transposed && how.plus == 0 && whole_blocks) {
    out.bytes = kernels::row_bytes(whole->dtype, rows * row);
    out.data = whole->data.subspan(kernels::row_bytes(whole->dtype, begin * row), out.bytes);
    return std::optional<TensorInfo>(std::move(out));
  }

  std::vector<std::byte> copy;
  const auto keep = [&](kernels::DType dtype) {
    const std::lock_guard lock(copies_->mutex);
    out.dtype = dtype;
    out.data = copies_->values.emplace_back(std::move(copy));
    out.bytes = out.data.size();
    return std::optional<TensorInfo>(std::move(out));
  };
  if (!how.transposed && how.plus == 0 && row % type.block_elements == 0) {
    const uint64_t width = kernels::row_bytes(whole->dtype, row);
    copy.reserve(static_cast<uint64_t>(rows) * width);
    for (int64_t g = 0; g < groups; ++g) {
      const auto from = whole->data.subspan(static_cast<uint64_t>(g * period + begin) * width,
                                            static_cast<uint64_t>(kept_rows) * width);
      copy.insert(copy.end(), from.begin(), from.end());
    }
    return keep(whole->dtype);
  }
  if (!type.native) return wrong(ErrorCode::kUnsupported, fmt::format("is {}, which cannot be rearranged", type.name));
  std::vector<float> all(
      static_cast<size_t>(whole->dims.size() == 2 ? whole->dims[0] * whole->dims[1] : whole->dims[0]));
  kernels::dequantize(whole->dtype, whole->data.data(), static_cast<int64_t>(all.size()), all.data());
  copy.resize(static_cast<size_t>(rows * row) * sizeof(float));
  auto* kept = reinterpret_cast<float*>(copy.data());
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t held = r / kept_rows * period + begin + r % kept_rows;
    for (int64_t c = 0; c < row; ++c) {
      const int64_t from = how.transposed ? c * whole->dims[0] + held : held * row + c;
      kept[r * row + c] = all[static_cast<size_t>(from)] + how.plus;
    }
  }
  return keep(kernels::DType::kF32);
}

void ModelSource::release(std::span<const std::byte> bytes) const {
  for (const auto& file : files_) {
    const std::span<const std::byte> all = file->bytes();
    if (bytes.data() >= all.data() && bytes.data() + bytes.size() <= all.data() + all.size()) file->release(bytes);
  }
}

Status ModelSource::check_intact() const {
  for (const auto& file : files_) FOVEA_RETURN_IF_ERROR(file->check_intact());
  return {};
}

Result<std::shared_ptr<const ModelSource>> open_model(const std::string& path, const SourceOptions& options) {
  if (const auto folder = HfFolder::folder_of(path)) {
    FOVEA_ASSIGN_OR_RETURN(std::shared_ptr<const HfFolder> model, HfFolder::open(*folder, options));
    return std::shared_ptr<const ModelSource>(std::move(model));
  }
  FOVEA_ASSIGN_OR_RETURN(std::shared_ptr<const Gguf> file, Gguf::open(path, options));
  return std::shared_ptr<const ModelSource>(std::move(file));
}

}  // namespace fovea::formats
