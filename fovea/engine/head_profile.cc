#include "fovea/engine/head_profile.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/json.h"

namespace fovea::engine {
namespace {

constexpr int kVersion = 1;
constexpr uint64_t kMaxBytes = uint64_t{64} << 20;

// The number at a key of an entry, in [0, n).
Result<int> index_of(const nlohmann::ordered_json& entry, const char* key, int n, size_t i, const std::string& name) {
  const auto it = entry.find(key);
  if (it == entry.end() || !it->is_number_integer() || it->get<int64_t>() < 0 || it->get<int64_t>() >= n) {
    return make_error(ErrorCode::kData, "{}: heads[{}].{} must be a whole number in 0 to {}", name, i, key, n - 1);
  }
  return it->get<int>();
}

}  // namespace

Result<attention::HeadProfile> parse_head_profile(const std::string& text, const std::string& name,
                                                  const attention::ModelShape& shape) {
  FOVEA_ASSIGN_OR_RETURN(const nlohmann::ordered_json json, parse_json(text, name));
  if (!json.is_object()) return make_error(ErrorCode::kData, "{}: not a head profile (no JSON object)", name);
  const auto version = json.find("version");
  if (version == json.end() || *version != kVersion) {
    return make_error(ErrorCode::kData, "{}: version must be {}", name, kVersion);
  }
  const auto sha256 = json.find("model_sha256");
  if (sha256 == json.end() || !sha256->is_string())
    return make_error(ErrorCode::kData, "{}: model_sha256 is missing", name);
  const auto heads = json.find("heads");
  if (heads == json.end() || !heads->is_array()) return make_error(ErrorCode::kData, "{}: heads must be a list", name);

  attention::HeadProfile profile;
  profile.model_sha256 = *sha256;
  profile.n_layers = shape.n_layers;
  profile.n_heads = shape.n_heads;
  const auto n_all = static_cast<size_t>(shape.n_layers) * static_cast<size_t>(shape.n_heads);
  if (heads->size() != n_all) {
    return make_error(ErrorCode::kData, "{}: it has {} heads, this model {} layers of {}", name, heads->size(),
                      shape.n_layers, shape.n_heads);
  }
  std::vector<bool> seen(n_all);
  for (size_t i = 0; i < heads->size(); ++i) {
    const nlohmann::ordered_json& entry = (*heads)[i];
    if (!entry.is_object()) return make_error(ErrorCode::kData, "{}: heads[{}] must be an object", name, i);
    FOVEA_ASSIGN_OR_RETURN(const int layer, index_of(entry, "layer", shape.n_layers, i, name));
    FOVEA_ASSIGN_OR_RETURN(const int head, index_of(entry, "head", shape.n_heads, i, name));
    const auto id = static_cast<size_t>(layer) * static_cast<size_t>(shape.n_heads) + static_cast<size_t>(head);
    if (seen[id]) return make_error(ErrorCode::kData, "{}: heads[{}] is layer {} head {} again", name, i, layer, head);
    seen[id] = true;
    for (const auto& [key, value] : entry.items()) {
      if (key == "layer" || key == "head" || !value.is_number()) continue;
      auto& values = profile.values[key];
      values.resize(n_all);
      values[id] = value.get<double>();
    }
  }
  return profile;
}

Result<std::shared_ptr<const attention::HeadProfile>> read_head_profile(const std::string& path, const Model& model) {
  FOVEA_ASSIGN_OR_RETURN(const std::string text, read_file(path, kMaxBytes));
  FOVEA_ASSIGN_OR_RETURN(attention::HeadProfile profile,
                         parse_head_profile(text, fovea::quoted(path, 4096), model.shape()));
  FOVEA_ASSIGN_OR_RETURN(const std::string sha256, model.sha256());
  if (profile.model_sha256 != sha256) {
    return make_error(ErrorCode::kData, "{}: a profile of another model file ({}, this one is {})",
                      fovea::quoted(path, 4096), fovea::quoted(profile.model_sha256), sha256);
  }
  return std::make_shared<const attention::HeadProfile>(std::move(profile));
}

}  // namespace fovea::engine
