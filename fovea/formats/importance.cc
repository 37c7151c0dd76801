#include "fovea/formats/importance.h"

#include <cmath>
#include <span>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/formats/gguf_file_writer.h"
#include "fovea/kernels/matmul.h"

namespace fovea::formats {
namespace {

constexpr std::string_view kSquares = ".in_sum2", kCounts = ".counts";

Result<std::vector<double>> numbers_of(const Gguf& gguf, const TensorInfo& tensor) {
  if (tensor.dtype != kernels::DType::kF32 || tensor.data.empty())
    return make_error(ErrorCode::kData, "{}: tensor {} is {} of {} bytes, not float32 numbers", gguf.name(),
                      quote(tensor.name), kernels::dtype_info(tensor.dtype).name, tensor.bytes);
  std::vector<float> values(tensor.data.size() / sizeof(float));
  kernels::dequantize(tensor.dtype, tensor.data.data(), static_cast<int64_t>(values.size()), values.data());
  for (size_t i = 0; i < values.size(); ++i) {
    if (!(values[i] >= 0) || std::isinf(values[i]))
      return make_error(ErrorCode::kData, "{}: tensor {} holds {} at {}; 0 and more is allowed", gguf.name(),
                        quote(tensor.name), values[i], i);
  }
  return std::vector<double>(values.begin(), values.end());
}

}  // namespace

Result<Importance> Importance::open(const std::string& path) {
  FOVEA_ASSIGN_OR_RETURN(const auto gguf, Gguf::open(path));
  Importance out;
  for (const TensorInfo& tensor : gguf->tensors()) {
    if (!tensor.name.ends_with(kSquares)) continue;
    const std::string name = tensor.name.substr(0, tensor.name.size() - kSquares.size());
    const TensorInfo* counts = gguf->find_tensor(name + std::string(kCounts));
    if (!counts)
      return make_error(ErrorCode::kData, "{}: tensor {} has no {} beside it", gguf->name(), quote(tensor.name),
                        quote(name + std::string(kCounts)));
    Sums sums;
    FOVEA_ASSIGN_OR_RETURN(sums.squares, numbers_of(*gguf, tensor));
    FOVEA_ASSIGN_OR_RETURN(sums.counts, numbers_of(*gguf, *counts));
    if (sums.squares.size() % sums.counts.size() != 0)
      return make_error(ErrorCode::kData, "{}: tensor {} holds {} sums for {} counts", gguf->name(), quote(tensor.name),
                        sums.squares.size(), sums.counts.size());
    out.sums_.emplace(name, std::move(sums));
  }
  FOVEA_RETURN_IF_ERROR(gguf->check_intact());
  if (out.sums_.empty())
    return make_error(ErrorCode::kData, "{}: no importance weights: it has no tensor called NAME{}", gguf->name(),
                      kSquares);
  return out;
}

void Importance::add(const std::string& tensor, const float* x, int64_t n_columns, int64_t matrix, int64_t n_matrices) {
  Sums& sums = sums_[tensor];
  if (sums.squares.empty()) {
    sums.squares.resize(static_cast<size_t>(n_columns * n_matrices));
    sums.counts.resize(static_cast<size_t>(n_matrices));
  }
  double* squares = sums.squares.data() + matrix * n_columns;
  for (int64_t c = 0; c < n_columns; ++c) squares[c] += double{x[c]} * double{x[c]};
  sums.counts[static_cast<size_t>(matrix)] += 1;
}

Status Importance::write(FileWriter file, const std::string& text, uint32_t n_chunks, uint32_t chunk) const {
  GgufKeys keys;
  keys.put("general.type", "imatrix");
  keys.put("imatrix.datasets", std::vector<std::string>{text});
  keys.put("imatrix.chunk_count", n_chunks);
  keys.put("imatrix.chunk_size", chunk);
  std::vector<GgufTensor> tensors;
  for (const auto& [name, sums] : sums_) {
    const auto n = static_cast<int64_t>(sums.counts.size()), columns = static_cast<int64_t>(sums.squares.size()) / n;
    tensors.push_back({name + std::string(kSquares), kernels::DType::kF32, {columns, n}});
    tensors.push_back({name + std::string(kCounts), kernels::DType::kF32, {1, n}});
  }
  FOVEA_ASSIGN_OR_RETURN(auto writer, GgufFileWriter::create(std::move(file), keys, tensors));
  for (const auto& entry : sums_) {
    for (const std::vector<double>* values : {&entry.second.squares, &entry.second.counts}) {
      const std::vector<float> floats(values->begin(), values->end());
      FOVEA_RETURN_IF_ERROR(writer.write(std::as_bytes(std::span(floats))));
    }
  }
  return writer.commit();
}

std::vector<float> Importance::of(std::string_view tensor) const {
  const auto it = sums_.find(tensor);
  if (it == sums_.end()) return {};
  const Sums& sums = it->second;
  const size_t columns = sums.squares.size() / sums.counts.size();
  std::vector<float> out(sums.squares.size());
  for (size_t i = 0; i < out.size(); ++i) {
    const double count = sums.counts[i / columns];
    out[i] = count > 0 ? static_cast<float>(sums.squares[i] / count) : 1.0f;  // an expert that no token chose
  }
  return out;
}

}  // namespace fovea::formats
