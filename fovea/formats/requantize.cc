#include "fovea/formats/requantize.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/matmul.h"
#include "fovea/kernels/quantize_weights.h"

namespace fovea::formats {

using kernels::DType;

uint32_t file_type_of(DType type) {
  switch (type) {
    case DType::kF32: return 0;
    case DType::kF16: return 1;
    case DType::kQ4_0: return 2;
    case DType::kQ4_1: return 3;
    case DType::kQ8_0: return 7;
    case DType::kQ5_0: return 8;
    case DType::kQ5_1: return 9;
    case DType::kQ2_K: return 10;
    case DType::kQ3_K: return 11;
    case DType::kQ4_K: return 14;
    case DType::kQ5_K: return 16;
    case DType::kQ6_K: return 18;
    case DType::kIQ4_NL: return 25;
    case DType::kIQ4_XS: return 30;
    case DType::kBF16: return 32;
    case DType::kTQ2_0: return 37;
    default: return 38;  // MXFP4
  }
}

bool keeps_its_type(std::string_view name) {
  constexpr std::string_view kParts[] = {"_norm.",          "ffn_gate_inp",   "position_embd", "token_types",
                                         "ssm_conv1d",      "shortconv.conv", "attn_rel_b",    "rope_freqs",
                                         "per_layer_model", "attn_sinks"};
  return std::any_of(std::begin(kParts), std::end(kParts),
                     [&](std::string_view part) { return name.find(part) != name.npos; });
}

namespace {

std::string lower(std::string_view name) {
  std::string out(name);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

// Of the same quality or better, with blocks of 32.
DType narrower_block(DType type) {
  switch (type) {
    case DType::kQ4_K: return DType::kQ5_0;
    case DType::kQ5_K: return DType::kQ5_1;
    case DType::kQ6_K: return DType::kQ8_0;
    default: return DType::kIQ4_NL;
  }
}

bool whole_blocks(DType type, int64_t n) { return n % kernels::dtype_info(type).block_elements == 0; }

int bits_of(DType type) {
  const kernels::DTypeInfo& info = kernels::dtype_info(type);
  return 8 * info.block_bytes / info.block_elements;
}

DType type_for(const TensorInfo& tensor, DType type, bool gives_logits) {
  if (type == DType::kF32) return type;
  if (tensor.dims.size() < 2 || !tensor.name.ends_with(".weight") || keeps_its_type(tensor.name)) return tensor.dtype;
  if (gives_logits && bits_of(type) < bits_of(DType::kQ6_K)) type = DType::kQ6_K;
  if (!whole_blocks(type, tensor.dims[0])) type = narrower_block(type);
  return whole_blocks(type, tensor.dims[0]) ? type : DType::kF16;
}

uint64_t elements_of(const TensorInfo& tensor) {
  uint64_t n = 1;
  for (const int64_t dim : tensor.dims) n *= static_cast<uint64_t>(dim);
  return n;
}

// Writes one tensor, some megabytes of rows at a time.
class TensorWork {
 public:
  TensorWork(const Gguf& in, const PlannedTensor& planned, GgufFileWriter& out, const RequantizeOptions& options)
      : in_(in), from_(*planned.from), to_(planned.to), out_(out), options_(options) {}

  Status run(uint64_t& done) {
    if (elements_of(from_) == 0) return {};
    const int64_t cols = from_.dims[0], rows = static_cast<int64_t>(elements_of(from_)) / cols;
    const uint64_t in_row = kernels::row_bytes(from_.dtype, cols), out_row = kernels::row_bytes(to_, cols);
    std::vector<float> importance;
    if (options_.importance && to_ != from_.dtype) importance = options_.importance->of(from_.name);
    if (!importance.empty() && static_cast<int64_t>(importance.size()) % cols != 0)
      return make_error(ErrorCode::kData, "{}: tensor {} has {} columns, but the importance weights are {}", in_.name(),
                        quote(from_.name), cols, importance.size());
    const auto n_matrices = static_cast<int64_t>(importance.size()) / cols;
    if (n_matrices > 1 && rows % n_matrices != 0)
      return make_error(ErrorCode::kData, "{}: tensor {} has {} rows, but there are importance weights of {} matrices",
                        in_.name(), quote(from_.name), rows, n_matrices);
    const int64_t step = std::max<int64_t>(1, (int64_t{4} << 20) / cols);
    std::vector<std::byte> made(static_cast<size_t>(std::min(rows, step)) * out_row);
    for (int64_t first = 0; first < rows; first += step) {
      if (options_.cancel && options_.cancel->load(std::memory_order_relaxed))
        return Error{ErrorCode::kCancelled, "cancelled", {}};
      const int64_t n = std::min(step, rows - first);
      const std::byte* from = from_.data.data() + static_cast<uint64_t>(first) * in_row;
      const std::span<const std::byte> read(from, static_cast<size_t>(n) * in_row);
      if (to_ == from_.dtype) {
        FOVEA_RETURN_IF_ERROR(out_.write(read));
      } else {
        std::atomic<int64_t> odd{-1};  // a row with a number that is not finite
        pool().for_each(n, [&](int64_t r, int) {
          thread_local std::vector<float> row;
          row.resize(static_cast<size_t>(cols));
          kernels::dequantize(from_.dtype, from + static_cast<uint64_t>(r) * in_row, cols, row.data());
          if (!std::all_of(row.begin(), row.end(), [](float v) { return std::isfinite(v); })) odd = first + r;
          const int64_t matrix = n_matrices > 1 ? (first + r) / (rows / n_matrices) : 0;
          if (odd < 0)
            kernels::quantize_weights(to_, row.data(), importance.empty() ? nullptr : importance.data() + matrix * cols,
                                      cols, made.data() + static_cast<uint64_t>(r) * out_row);
        });
        if (odd >= 0)
          return make_error(ErrorCode::kData, "{}: tensor {} has a weight in row {} that is not finite", in_.name(),
                            quote(from_.name), odd.load());
        FOVEA_RETURN_IF_ERROR(out_.write(std::span(made).first(static_cast<size_t>(n) * out_row)));
      }
      in_.release(read);
      done += read.size();
      if (options_.progress) options_.progress(done);
    }
    return {};
  }

 private:
  const Gguf& in_;
  const TensorInfo& from_;
  DType to_;
  GgufFileWriter& out_;
  const RequantizeOptions& options_;
};

}  // namespace

std::vector<std::string> quantizable_types() {
  std::vector<std::string> out;
  for (int32_t number = 0; number < 64; ++number) {
    const kernels::DTypeInfo* info = kernels::dtype_info(number);
    if (info && kernels::can_quantize(static_cast<DType>(number))) out.push_back(lower(info->name));
  }
  return out;
}

Result<DType> parse_type(std::string_view name) {
  for (int32_t number = 0; number < 64; ++number) {
    const kernels::DTypeInfo* info = kernels::dtype_info(number);
    if (info && lower(info->name) == lower(name) && kernels::can_quantize(static_cast<DType>(number)))
      return static_cast<DType>(number);
  }
  const std::vector<std::string> all = quantizable_types();
  const std::string given = lower(name);
  for (const std::string& type : all) {  // Q4_K_M, Q3_K_L
    if (type.ends_with("_k") && given.starts_with(type + "_"))
      return make_error(ErrorCode::kUsage, "{} is a mix of types of llama.cpp; here {} is the nearest to it",
                        quote(name, 40), type);
  }
  return make_error(ErrorCode::kUsage, "{} is no type that can be made; there are {}", quote(name),
                    fmt::join(all, ", "));
}

std::vector<PlannedTensor> plan_types(const Gguf& in, DType type) {
  std::vector<PlannedTensor> plan;
  const bool tied = !in.find_tensor("output.weight");
  for (const TensorInfo& tensor : in.tensors()) {
    const bool logits = tensor.name == "output.weight" || (tied && tensor.name == "token_embd.weight");
    const DType to = kernels::dtype_info(tensor.dtype).native ? type_for(tensor, type, logits) : tensor.dtype;
    const uint64_t n = elements_of(tensor);
    const kernels::DTypeInfo& info = kernels::dtype_info(to);
    plan.push_back(
        {&tensor, to, n / static_cast<uint64_t>(info.block_elements) * static_cast<uint64_t>(info.block_bytes)});
  }
  return plan;
}

Result<uint64_t> requantize(const Gguf& in, DType type, const std::vector<PlannedTensor>& plan, FileWriter file,
                            const RequantizeOptions& options) {
  GgufKeys keys;
  for (const Gguf::RawKey& key : in.raw_keys()) keys.put(key);
  for (const char* key : {"split.no", "split.count", "split.tensors.count"}) keys.erase(key);
  keys.put("general.file_type", file_type_of(type));
  keys.put("general.quantization_version", uint32_t{2});
  uint64_t alignment = 32;
  if (in.has("general.alignment")) {
    FOVEA_ASSIGN_OR_RETURN(alignment, in.get_u64("general.alignment"));
  }
  std::vector<GgufTensor> tensors;
  for (const PlannedTensor& planned : plan) tensors.push_back({planned.from->name, planned.to, planned.from->dims});
  FOVEA_ASSIGN_OR_RETURN(auto writer, GgufFileWriter::create(std::move(file), keys, tensors, alignment));
  uint64_t done = 0;
  for (const PlannedTensor& planned : plan) {
    FOVEA_RETURN_IF_ERROR(TensorWork(in, planned, writer, options).run(done));
    FOVEA_RETURN_IF_ERROR(in.check_intact());
  }
  const uint64_t bytes = writer.bytes();
  FOVEA_RETURN_IF_ERROR(writer.commit());
  return bytes;
}

}  // namespace fovea::formats
