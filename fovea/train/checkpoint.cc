#include "fovea/train/checkpoint.h"

#include <fmt/format.h>

#include <cstring>
#include <filesystem>
#include <map>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/json.h"
#include "fovea/base/mapped_file.h"
#include "fovea/formats/safetensors.h"
#include "fovea/formats/safetensors_writer.h"
#include "fovea/train/params.h"

namespace fovea::train {
namespace {

namespace fs = std::filesystem;
using tensor::Tensor;
using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxStateBytes = uint64_t{16} << 20;

constexpr int kStateVersion = 1;
constexpr const char* kOwnHash = "state_sha256";

// Of what is beside it. A step that is off by one bit is as bad as a weight.
std::string state_hash(Json state) {
  state.erase(kOwnHash);
  const std::string text = state.dump();
  return sha256_of(std::as_bytes(std::span<const char>(text)));
}

// Files of other steps, and what a killed save left.
void remove_others(const std::string& folder, const std::string& kept) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    const bool ours = name.starts_with("step-") || name.starts_with("state.json.part-");
    if (ours && name != kept) fs::remove(entry.path(), ignored);
  }
}

}  // namespace

Status save_checkpoint(const std::string& folder, int64_t step, const NamedTensors& tensors, Json state) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return file_error(folder, "make", error.value());
  // A name of its own even where this step is saved again: the file that state.json names is never written to.
  std::string name = fmt::format("step-{}.safetensors", step);
  for (int i = 2; fs::exists(folder + "/" + name, error); ++i) name = fmt::format("step-{}-{}.safetensors", step, i);
  const std::string path = folder + "/" + name;
  std::vector<formats::SafeTensor> header;
  uint64_t bytes = 0;
  for (const auto& [tensor_name, value] : tensors) {
    header.push_back({tensor_name, formats::SafeDtype::kF32, dims_of(value)});
    bytes += static_cast<uint64_t>(value.elements()) * sizeof(float);
  }
  {
    FOVEA_ASSIGN_OR_RETURN(FileWriter file, FileWriter::create(path, WriteTo::kOwnFile));
    FOVEA_RETURN_IF_ERROR(file.check_space(bytes));
    FOVEA_ASSIGN_OR_RETURN(auto writer, formats::SafetensorsWriter::create(std::move(file), path, header));
    for (const auto& entry : tensors) FOVEA_RETURN_IF_ERROR(writer.write(entry.second.values()));
    FOVEA_RETURN_IF_ERROR(writer.commit());
  }
  const auto saved = [&]() -> Status {
    // Mapped: a file that is read ends at Ctrl+C, and this must not.
    FOVEA_ASSIGN_OR_RETURN(const auto written, MappedFile::open(path));
    const std::string hash = sha256_of(written->bytes());
    FOVEA_RETURN_IF_ERROR(written->check_intact());
    state["tensors"] = name;
    state["sha256"] = hash;
    state[kOwnHash] = state_hash(state);
    return write_file_atomic(folder + "/state.json", state.dump(1) + "\n", WriteTo::kOwnFile);
  }();
  if (!saved) {
    fs::remove(path, error);
    return saved;
  }
  remove_others(folder, name);
  return {};
}

Result<std::optional<Json>> read_checkpoint(const std::string& folder) {
  const std::string path = folder + "/state.json";
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return std::optional<Json>();
  FOVEA_ASSIGN_OR_RETURN(Json state, read_json(path, kMaxStateBytes));
  for (const char* key : {"tensors", "sha256"}) {
    if (!state.is_object() || !state.contains(key) || !state[key].is_string())
      return make_error(ErrorCode::kData, "{}: it is no checkpoint: {} is missing", quote(path, 4096), key);
  }
  if (const Json version = state.value("version", Json(kStateVersion)); version != kStateVersion)
    return make_error(ErrorCode::kUnsupported, "{}: a checkpoint of version {}; this program reads version {}",
                      quote(path, 4096), version.dump(), kStateVersion);
  // One of an earlier program has no hash.
  const bool whole = state.contains("step") && state["step"].is_number_integer() && state["step"] >= 0 &&
                     state["step"] <= INT64_MAX && state.value(kOwnHash, Json(state_hash(state))) == state_hash(state);
  if (!whole)
    return make_error(ErrorCode::kData, "{}: the checkpoint was cut or changed: it is not what was saved",
                      quote(path, 4096));
  const auto& name = state["tensors"].get_ref<const std::string&>();
  if (!name.starts_with("step-") || name.find('/') != name.npos)
    return make_error(ErrorCode::kData, "{}: it is no checkpoint: its tensors are in {}", quote(path, 4096),
                      quote(name));
  return std::optional<Json>(std::move(state));
}

Status load_tensors(const std::string& folder, const Json& state, const NamedTensors& tensors) {
  const std::string path = folder + "/" + state["tensors"].get<std::string>(), name = quote(path, 4096);
  FOVEA_ASSIGN_OR_RETURN(const std::string hash, sha256_of_file(path));
  if (hash != state["sha256"])
    return make_error(ErrorCode::kData, "{}: the checkpoint was cut or changed: it is not the file that was saved",
                      name);
  FOVEA_ASSIGN_OR_RETURN(const auto file, MappedFile::open(path));
  FOVEA_ASSIGN_OR_RETURN(const auto parsed, formats::parse_safetensors(file->bytes(), path));
  std::map<std::string, const formats::TensorInfo*> found;
  for (const formats::TensorInfo& one : parsed.tensors) found.emplace(one.name, &one);
  for (const auto& [tensor_name, value] : tensors) {
    const auto it = found.find(tensor_name);
    if (it == found.end())
      return make_error(ErrorCode::kData, "{}: the checkpoint has no tensor {}: it is of another config", name,
                        tensor_name);
    const std::vector<int64_t> dims(it->second->dims.rbegin(), it->second->dims.rend());
    if (dims != dims_of(value) || it->second->dtype != kernels::DType::kF32)
      return make_error(ErrorCode::kData, "{}: tensor {} is [{}] in the checkpoint and {} in the model", name,
                        tensor_name, fmt::join(dims, ", "), value.shape().to_string());
    found.erase(it);
  }
  if (!found.empty())
    return make_error(ErrorCode::kData, "{}: the checkpoint has a tensor {} that this config has no place for", name,
                      quote(found.begin()->first));
  std::map<std::string, const formats::TensorInfo*> by_name;
  for (const formats::TensorInfo& one : parsed.tensors) by_name.emplace(one.name, &one);
  for (const auto& [tensor_name, value] : tensors) {
    Tensor into = value;
    const auto data = by_name.at(tensor_name)->data;
    std::memcpy(into.data(), data.data(), data.size());
  }
  return file->check_intact();
}

}  // namespace fovea::train
