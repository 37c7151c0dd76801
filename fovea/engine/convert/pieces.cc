#include "fovea/engine/convert/pieces.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "fovea/formats/requantize.h"
#include "fovea/formats/stored_rows.h"
#include "fovea/kernels/matmul.h"
#include "fovea/kernels/quantize_weights.h"
#include "fovea/models/support/pairing.h"
#include "fovea/models/support/rope.h"
#include "fovea/models/support/weights.h"

namespace fovea::engine {
namespace {

using formats::TensorInfo;
using kernels::DType;
using tensor::Parameter;
using tensor::Stored;

bool is_float(DType type) { return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16; }

std::vector<std::byte> narrowed(const std::vector<float>& values, DType to) {
  const auto n = static_cast<int64_t>(values.size());
  std::vector<std::byte> out(kernels::row_bytes(to, n));
  if (to == DType::kF32) {
    if (n > 0) std::memcpy(out.data(), values.data(), out.size());
  } else {
    kernels::quantize_weights(to, values.data(), nullptr, n, out.data());
  }
  return out;
}

bool holds(DType type, const std::vector<float>& values) {
  const std::vector<std::byte> bytes = narrowed(values, type);
  std::vector<float> back(values.size());
  kernels::dequantize(type, bytes.data(), static_cast<int64_t>(back.size()), back.data());
  return std::memcmp(back.data(), values.data(), values.size() * sizeof(float)) == 0;
}

// Of a parameter that is there.
Result<TensorInfo> held(const formats::ModelSource& source, const Parameter& p) {
  FOVEA_ASSIGN_OR_RETURN(auto found, models::find_weight(source, p));
  if (found) return std::move(*found);
  return make_error(ErrorCode::kData, "{}: tensor {} is missing", source.name(), source.name_of(p));
}

int64_t elements_of(const std::vector<int64_t>& dims) {
  int64_t n = 1;
  for (const int64_t dim : dims) n *= dim;
  return n;
}

}  // namespace

uint64_t Piece::bytes() const { return kernels::row_bytes(dtype, elements_of(dims)); }

// A tensor that had to be rearranged is float32 by now: what it was can hold it.
DType Pieces::type_in_source(const Parameter& p, const TensorInfo& found) const {
  const TensorInfo* stored = source_->find_tensor(source_->name_of(p));
  return stored && is_float(stored->dtype) ? stored->dtype : found.dtype;
}

Status Pieces::choose_type(Piece& piece) const {
  std::set<DType> types;
  for (const Parameter& p : piece.parameters) {
    FOVEA_ASSIGN_OR_RETURN(const TensorInfo found, held(*source_, p));
    types.insert(type_in_source(p, found));
  }
  const bool one = types.size() == 1;
  if (form_ == Form::kGguf) {
    // Readers of GGUF files expect float32 of whatever is no matrix to multiply with.
    const bool matrix = piece.dims.size() > 1 && !formats::keeps_its_type(piece.name);
    piece.dtype = one && (matrix || !is_float(*types.begin())) ? *types.begin() : DType::kF32;
  } else {
    piece.dtype = one && is_float(*types.begin()) ? *types.begin() : DType::kF32;
  }
  return {};
}

Result<Pieces> Pieces::plan(const formats::ModelSource& source, models::Family& family, Form form,
                            const std::string& architecture) {
  Pieces out(source, family.config(), form);
  const auto& registry = models::family_registry();
  const auto &own = registry.at(family.config().architecture).traits, &other = registry.at(architecture).traits;
  out.here_ = source.rope_pairing(own.pairing);
  out.there_ = form == Form::kGguf ? other.pairing.gguf : other.pairing.hf;
  std::map<std::string, size_t> at;
  std::set<std::string_view> known(models::rope_tensors().begin(), models::rope_tensors().end());
  const std::vector<Parameter> table = family.weights();
  std::set<std::string> names;  // in the source
  for (const Parameter& p : table) {
    names.insert(source.name_of(p));
    FOVEA_ASSIGN_OR_RETURN(const auto found, models::find_weight(source, p));
    if (!found) continue;
    const std::string& name = out.name_of(p);
    const auto [it, is_new] = at.emplace(name, out.list.size());
    if (is_new) out.list.push_back({.name = name, .dims = formats::stored_dims(p.shape, out.stored(p))});
    out.list[it->second].parameters.push_back(p);
  }
  for (Piece& piece : out.list) FOVEA_RETURN_IF_ERROR(out.choose_type(piece));
  for (const TensorInfo& tensor : source.tensors()) {
    if (known.count(tensor.name) || names.count(tensor.name)) continue;
    out.list.push_back({.name = tensor.name, .dims = tensor.dims, .dtype = tensor.dtype, .copied = &tensor});
  }
  if (form == Form::kGguf || out.list.empty()) return out;
  // A folder's tensors have one type. GGUF files hold norms and the like as float32 whatever they were: they go back
  // where nothing is lost.
  const DType common = out.list[0].dtype;
  for (Piece& piece : out.list) {
    if (common == DType::kF32 || piece.dtype != DType::kF32 || piece.copied) continue;
    std::vector<float> values;
    for (const Parameter& p : piece.parameters) {
      FOVEA_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, out.values_of(p, DType::kF32));
      const size_t before = values.size();
      values.resize(before + bytes.size() / sizeof(float));
      std::memcpy(values.data() + before, bytes.data(), bytes.size());
    }
    if (holds(common, values)) piece.dtype = common;
  }
  return out;
}

// In the order of the parameter, as the file to be written has its numbers.
Result<std::vector<std::byte>> Pieces::values_of(const Parameter& p, DType to) const {
  FOVEA_ASSIGN_OR_RETURN(const TensorInfo found, held(*source_, p));
  const float less = stored(p).plus;
  if (found.dtype == to && less == 0) return std::vector<std::byte>(found.data.begin(), found.data.end());
  if (!is_float(to))
    return make_error(ErrorCode::kUnsupported, "{}: tensor {} is {}, which cannot become {}", source_->name(),
                      source_->name_of(p), kernels::dtype_info(found.dtype).name, kernels::dtype_info(to).name);
  std::vector<float> values(static_cast<size_t>(elements_of(p.shape)));
  kernels::dequantize(found.dtype, found.data.data(), static_cast<int64_t>(values.size()), values.data());
  for (float& value : values) value -= less;
  return narrowed(values, to);
}

Result<std::span<const std::byte>> Pieces::bytes_of(const Piece& piece, std::vector<std::byte>& made) const {
  using Bytes = std::span<const std::byte>;
  if (piece.copied) return piece.copied->data;
  if (!piece.made.empty()) return std::as_bytes(std::span(piece.made));
  const auto moves = [&](const Parameter& p) {
    for (int64_t row = 0; row < 2; ++row) {
      if (models::paired_row(row, p, here_, there_, *config_) != row) return true;
    }
    return false;
  };
  const Parameter& first = piece.parameters[0];
  if (piece.parameters.size() == 1 && formats::is_plain(stored(first)) && !moves(first)) {
    FOVEA_ASSIGN_OR_RETURN(const TensorInfo found, held(*source_, first));
    if (found.dtype == piece.dtype) return found.data;
    FOVEA_ASSIGN_OR_RETURN(made, values_of(first, piece.dtype));
    return Bytes(made);
  }
  made.assign(piece.bytes(), std::byte{0});
  for (const Parameter& p : piece.parameters) {
    FOVEA_ASSIGN_OR_RETURN(const std::vector<std::byte> values, values_of(p, piece.dtype));
    const auto from = [&](int64_t row) { return models::paired_row(row, p, there_, here_, *config_); };
    formats::place_rows(piece.dtype, values, p.shape, stored(p), piece.dims, from, made);
  }
  return Bytes(made);
}

}  // namespace fovea::engine
