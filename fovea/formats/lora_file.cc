#include "fovea/formats/lora_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file_kind.h"
#include "fovea/base/json.h"
#include "fovea/base/text_file.h"
#include "fovea/formats/gguf.h"
#include "fovea/formats/peft_config.h"
#include "fovea/formats/safetensors.h"
#include "fovea/kernels/matmul.h"

namespace fovea::formats {
namespace {

namespace fs = std::filesystem;
using kernels::DType;
using tensor::Tensor;

constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kWeights = "adapter_model.safetensors";
constexpr std::string_view kPeftPrefix = "base_model.model.";

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Error bad(ErrorCode code, const std::string& file, const std::string& tensor, const std::string& what) {
  return {code, fmt::format("{}: tensor {} {}", file, quote(tensor), what), "tensor " + tensor};
}

// A matrix [rows, cols] as float32.
Result<Tensor> values_of(const TensorInfo& t, const std::string& file) {
  if (t.dims.size() != 2)
    return bad(ErrorCode::kUnsupported, file, t.name,
               fmt::format("is [{}]; matrices are read", fmt::join(t.dims.rbegin(), t.dims.rend(), ", ")));
  const kernels::DTypeInfo& type = kernels::dtype_info(t.dtype);
  if (!type.native)
    return bad(ErrorCode::kUnsupported, file, t.name, fmt::format("is {}, which is not read", type.name));
  const std::vector<std::byte> aligned(t.data.begin(), t.data.end());  // data may lie at any address
  Tensor out = Tensor::empty({t.dims[1], t.dims[0]});
  kernels::dequantize(t.dtype, aligned.data(), out.elements(), out.data());
  const auto values = std::as_const(out).values();
  const auto found = std::find_if_not(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
  if (found != values.end())
    return bad(ErrorCode::kData, file, t.name,
               fmt::format("has an element that is no number (NaN or Inf), at {}", found - values.begin()));
  return out;
}

Tensor turned(const Tensor& t) {
  Tensor out = Tensor::empty({t.dim(1), t.dim(0)});
  for (int64_t r = 0; r < t.dim(0); ++r) {
    for (int64_t c = 0; c < t.dim(1); ++c) out.data()[c * t.dim(0) + r] = t.data()[r * t.dim(1) + c];
  }
  return out;
}

// The two halves of what changes one weight, as they are found.
struct Halves {
  const TensorInfo *a = nullptr, *b = nullptr;
  bool embedding = false;
};
using AllHalves = std::map<std::string, Halves>;

Status put(AllHalves& all, const std::string& weight, const TensorInfo& tensor, bool is_a, bool embedding,
           const std::string& file) {
  Halves& halves = all[weight];
  const TensorInfo*& half = is_a ? halves.a : halves.b;
  if (half)
    return bad(ErrorCode::kData, file, tensor.name, fmt::format("and {} are one half of one pair", quote(half->name)));
  half = &tensor;
  halves.embedding = halves.embedding || embedding;
  return {};
}

// a [rank, cols] and b [rows, rank], also of an embedding, whose A goes with the rows of the table.
Result<LoraPair> pair_of(const std::string& weight, const Halves& halves, bool of_table, bool a_is_rows,
                         const std::string& file) {
  LoraPair out{.weight = weight, .embedding = halves.embedding};
  if (!halves.a || !halves.b) {
    const TensorInfo& there = halves.a ? *halves.a : *halves.b;
    return bad(ErrorCode::kData, file, there.name,
               fmt::format("has no {} beside it: half of the pair is missing", halves.a ? "B" : "A"));
  }
  out.a_name = halves.a->name, out.b_name = halves.b->name;
  FOVEA_ASSIGN_OR_RETURN(out.a, values_of(*halves.a, file));
  FOVEA_ASSIGN_OR_RETURN(out.b, values_of(*halves.b, file));
  if (of_table) {  // A [rank, rows], or its transpose as GGUF has it, and B [cols, rank]
    Tensor of_rows = a_is_rows ? out.a : turned(out.a);
    out.a = turned(out.b);
    out.b = std::move(of_rows);
  }
  const int64_t rank = out.a.dim(0);
  if (rank != out.b.dim(1) || rank == 0 || rank > static_cast<int64_t>(LoraFile::kMaxRank)) {
    const auto shape = [](const TensorInfo& t) { return fmt::format("[{}, {}]", t.dims[1], t.dims[0]); };
    return bad(ErrorCode::kData, file, out.a_name,
               fmt::format("is {} and {} is {}: their ranks differ, or are not in 1 to {}", shape(*halves.a),
                           quote(out.b_name), shape(*halves.b), LoraFile::kMaxRank));
  }
  return out;
}

// "X" of "X.lora_A.weight", with what follows; nothing where the name has no such part.
std::optional<std::pair<std::string, std::string>> split_at(const std::string& name, std::string_view part) {
  const size_t at = name.rfind(part);
  if (at == std::string::npos) return std::nullopt;
  return std::pair(name.substr(0, at), name.substr(at + part.size()));
}

Error no_lora(const TensorInfo& t, const std::string& file) {
  const auto has = [&](std::string_view part) { return t.name.find(part) != std::string::npos; };
  const char* what = "is no half of a LoRA pair: weights saved whole are not read";
  if (has("lora_magnitude_vector")) what = "is of DoRA, which is not read";
  if (has("lora_B.bias") || has("lora_A.bias")) what = "is a bias beside a pair, which is not read";
  if (has("modules_to_save")) what = "is a module saved whole (modules_to_save), which is not read";
  return bad(ErrorCode::kUnsupported, file, t.name, what);
}

Result<std::vector<LoraPair>> peft_pairs(const std::vector<TensorInfo>& tensors, const PeftConfig& config,
                                         const std::string& file, std::vector<LoraBase>& bases) {
  AllHalves all;
  for (const TensorInfo& t : tensors) {
    std::string name = t.name;
    if (name.starts_with(kPeftPrefix)) name.erase(0, kPeftPrefix.size());
    if (const auto base = split_at(name, ".base_layer."); base && base->second == "weight") {
      FOVEA_ASSIGN_OR_RETURN(Tensor values, values_of(t, file));
      bases.push_back({base->first, t.name, std::move(values)});
      continue;
    }
    bool known = false;
    for (const auto& [part, rest, is_a, embedding] :
         {std::tuple{".lora_A.", "weight", true, false}, std::tuple{".lora_B.", "weight", false, false},
          std::tuple{".lora_embedding_A", "", true, true}, std::tuple{".lora_embedding_B", "", false, true}}) {
      const auto split = split_at(name, part);
      if (!split || split->second != rest) continue;
      known = true;
      FOVEA_RETURN_IF_ERROR(put(all, split->first, t, is_a, embedding, file));
    }
    if (!known) return no_lora(t, file);
  }
  std::vector<LoraPair> out;
  for (const auto& [weight, halves] : all) {
    FOVEA_ASSIGN_OR_RETURN(LoraPair pair, pair_of(weight, halves, halves.embedding, /*a_is_rows=*/false, file));
    FOVEA_ASSIGN_OR_RETURN(pair.scale, config.scale_of(weight, pair.a.dim(0)));
    out.push_back(std::move(pair));
  }
  return out;
}

Result<std::shared_ptr<const MappedFile>> map(const fs::path& path, uint64_t max_bytes) {
  FOVEA_ASSIGN_OR_RETURN(auto file, MappedFile::open(path.string()));
  if (file->bytes().size() <= max_bytes) return file;
  return make_error(ErrorCode::kLimit, "{}: it has {} bytes; up to {} are allowed", quote(path.string(), 4096),
                    file->bytes().size(), max_bytes);
}

Error no_weights(const fs::path& folder) {
  for (const char* pickle : {"adapter_model.bin", "adapter_model.pt"}) {
    if (fs::exists(folder / pickle))
      return make_error(ErrorCode::kUnsupported,
                        "{}: a PyTorch pickle, which is never read: it may run code; save it as safetensors",
                        quote((folder / pickle).string(), 4096));
  }
  return make_error(ErrorCode::kNotFound, "{}: there is no {}", quote(folder.string(), 4096), kWeights);
}

Result<LoraFile> open_peft(const fs::path& folder) {
  const fs::path config_path = folder / kConfig, weights_path = folder / kWeights;
  if (!fs::exists(config_path))
    return make_error(ErrorCode::kData, "{}: not an adapter: the folder has no {}", quote(folder.string(), 4096),
                      kConfig);
  if (!fs::exists(weights_path)) return no_weights(folder);
  FOVEA_ASSIGN_OR_RETURN(const auto config, map(config_path, LoraFile::kMaxConfigBytes));
  FOVEA_ASSIGN_OR_RETURN(const auto weights, map(weights_path, UINT64_MAX));
  FOVEA_ASSIGN_OR_RETURN(LoraFile out,
                         parse_peft(config->bytes(), weights->bytes(), config_path.string(), weights_path.string()));
  out.files = {config, weights};
  for (const auto& file : out.files) FOVEA_RETURN_IF_ERROR(file->check_intact());
  return out;
}

}  // namespace

Result<LoraFile> parse_peft(std::span<const std::byte> config_bytes, std::span<const std::byte> weights,
                            const std::string& config_name, const std::string& weights_name) {
  const std::string config_file = quote(config_name, 4096);
  LoraFile out{.kind = LoraFile::Kind::kPeft, .name = quote(weights_name, 4096)};
  FOVEA_RETURN_IF_ERROR(refuse_known_kinds(as_text(config_bytes).substr(0, kFileKindBytes), config_file));
  FOVEA_ASSIGN_OR_RETURN(const auto json, parse_json(as_text(config_bytes), config_file));
  if (!json.is_object()) return make_error(ErrorCode::kData, "{}: it is no JSON object", config_file);
  FOVEA_ASSIGN_OR_RETURN(const PeftConfig config, PeftConfig::read(json, config_file));
  if (const auto base = json.find("base_model_name_or_path"); base != json.end() && base->is_string())
    out.base_model = base->get<std::string>();
  FOVEA_ASSIGN_OR_RETURN(const Safetensors parsed, parse_safetensors(weights, weights_name));
  FOVEA_ASSIGN_OR_RETURN(out.pairs, peft_pairs(parsed.tensors, config, out.name, out.bases));
  if (out.pairs.empty()) return make_error(ErrorCode::kData, "{}: there is no pair of a LoRA in it", out.name);
  return out;
}

Result<LoraFile> parse_gguf_lora(std::span<const std::byte> bytes, const std::string& name) {
  FOVEA_ASSIGN_OR_RETURN(const Gguf file, Gguf::parse(bytes, name));
  LoraFile out{.kind = LoraFile::Kind::kGguf, .name = file.name()};
  const auto wanted = [&](const char* key, std::string_view value) -> Status {
    const auto found = file.get_string(key);
    if (!found || *found != value)
      return Error{
          found ? ErrorCode::kUnsupported : ErrorCode::kData,
          fmt::format("{}: key \"{}\" is {}; {} is read", out.name, key, found ? quote(*found) : "missing", value),
          key};
    return {};
  };
  FOVEA_RETURN_IF_ERROR(wanted("general.type", "adapter"));
  FOVEA_RETURN_IF_ERROR(wanted("adapter.type", "lora"));
  if (file.has("adapter.alora.invocation_tokens"))
    return Error{ErrorCode::kUnsupported,
                 out.name + ": key \"adapter.alora.invocation_tokens\": an adapter that begins in the middle of a text",
                 "adapter.alora.invocation_tokens"};
  FOVEA_ASSIGN_OR_RETURN(out.architecture, file.get_string("general.architecture"));
  FOVEA_ASSIGN_OR_RETURN(const double alpha, file.get_f64("adapter.lora.alpha"));
  if (!(std::abs(alpha) <= 1e6))
    return Error{ErrorCode::kData, fmt::format("{}: key \"adapter.lora.alpha\" is {}", out.name, alpha),
                 "adapter.lora.alpha"};

  AllHalves all;
  for (const TensorInfo& t : file.tensors()) {
    const auto a = split_at(t.name, ".lora_a"), b = split_at(t.name, ".lora_b");
    const auto& half = a ? a : b;
    if (!half || !half->second.empty()) return no_lora(t, out.name);
    FOVEA_RETURN_IF_ERROR(put(all, half->first, t, a.has_value(), half->first == "token_embd.weight", out.name));
  }
  for (const auto& [weight, halves] : all) {
    FOVEA_ASSIGN_OR_RETURN(LoraPair pair, pair_of(weight, halves, halves.embedding, /*a_is_rows=*/true, out.name));
    pair.scale = alpha == 0 ? 1 : alpha / static_cast<double>(pair.a.dim(0));  // 0: not said
    out.pairs.push_back(std::move(pair));
  }
  if (out.pairs.empty()) return make_error(ErrorCode::kData, "{}: there is no pair of a LoRA in it", out.name);
  return out;
}

Result<LoraFile> LoraFile::open(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return open_peft(path);
  const fs::path file_path(path);
  if (file_path.filename() == kConfig || file_path.filename() == kWeights)
    return open_peft(file_path.has_parent_path() ? file_path.parent_path() : fs::path("."));
  const std::string extension = file_path.extension().string();
  if (extension == ".bin" || extension == ".pt" || extension == ".pth")
    return make_error(ErrorCode::kUnsupported,
                      "{}: a PyTorch pickle, which is never read: it may run code; save it as safetensors",
                      quote(path, 4096));
  if (extension == ".safetensors")
    return make_error(ErrorCode::kUnsupported, "{}: the rank of a LoRA is in {}: a folder with it and {} is needed",
                      quote(path, 4096), kConfig, kWeights);
  FOVEA_ASSIGN_OR_RETURN(const auto file, map(file_path, UINT64_MAX));
  FOVEA_ASSIGN_OR_RETURN(LoraFile out, parse_gguf_lora(file->bytes(), path));
  out.files = {file};
  FOVEA_RETURN_IF_ERROR(file->check_intact());
  return out;
}

}  // namespace fovea::formats
