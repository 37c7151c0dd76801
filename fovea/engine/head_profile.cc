#include "fovea/engine/head_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/json.h"
#include "fovea/engine/lora.h"

namespace fovea::engine {
namespace {

using attention::Granularity;
using attention::HeadProfile;
using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr uint64_t kMaxBytes = uint64_t{64} << 20;

// A list of the file: one entry for each head of each layer, each KV head, or each layer.
struct List {
  const char *key, *index;  // "heads", "head"; index null: a layer has one entry
  Granularity of;
};
constexpr List kLists[] = {{"heads", "head", Granularity::kHead},
                           {"kv_heads", "kv_head", Granularity::kKvHead},
                           {"layers", nullptr, Granularity::kLayer}};

// The number at a key of an entry, in [0, n).
Result<int> index_of(const Json& entry, const char* key, int n, const List& list, size_t i, const std::string& name) {
  const auto it = entry.find(key);
  if (it == entry.end() || !it->is_number_integer() || it->get<int64_t>() < 0 || it->get<int64_t>() >= n) {
    return make_error(ErrorCode::kData, "{}: {}[{}].{} must be a whole number in 0 to {}", name, list.key, i, key,
                      n - 1);
  }
  return it->get<int>();
}

// The numbers of an entry, as value `id` of their columns.
Status add_values(const Json& entry, Granularity of, size_t id, const std::string& name, HeadProfile& profile) {
  for (const auto& [key, value] : entry.items()) {
    if (key == "layer" || key == "head" || key == "kv_head" || !value.is_number()) continue;
    auto& column = profile.columns.try_emplace(key, HeadProfile::Column{of}).first->second;
    if (column.of != of)
      return make_error(ErrorCode::kData, "{}: {} is given for two kinds of things", name, quote(key));
    column.values.resize(profile.size(of), std::numeric_limits<double>::quiet_NaN());  // until its entry comes
    column.values[id] = value.get<double>();
  }
  return {};
}

Status add_list(const Json& entries, const List& list, const std::string& name, HeadProfile& profile) {
  if (!entries.is_array()) return make_error(ErrorCode::kData, "{}: {} must be a list", name, list.key);
  const size_t n_all = profile.size(list.of), n_layers = static_cast<size_t>(profile.n_layers);
  const auto each = static_cast<int>(n_all / n_layers);
  if (entries.size() != n_all) {
    return make_error(ErrorCode::kData, "{}: it has {} {}, this model {} layers of {}", name, entries.size(), list.key,
                      profile.n_layers, each);
  }
  std::vector<bool> seen(n_all);
  for (size_t i = 0; i < n_all; ++i) {
    const Json& entry = entries[i];
    if (!entry.is_object()) return make_error(ErrorCode::kData, "{}: {}[{}] must be an object", name, list.key, i);
    FOVEA_ASSIGN_OR_RETURN(const int layer, index_of(entry, "layer", profile.n_layers, list, i, name));
    int index = 0;
    if (list.index) {
      FOVEA_ASSIGN_OR_RETURN(index, index_of(entry, list.index, each, list, i, name));
    }
    const auto id = static_cast<size_t>(layer) * static_cast<size_t>(each) + static_cast<size_t>(index);
    if (seen[id]) {
      return make_error(ErrorCode::kData, "{}: {}[{}] is layer {}{} again", name, list.key, i, layer,
                        list.index ? fmt::format(" {} {}", list.index, index) : "");
    }
    seen[id] = true;
    FOVEA_RETURN_IF_ERROR(add_values(entry, list.of, id, name, profile));
  }
  return {};
}

// A column without a number for one of its heads would rank it on nothing.
Status check_whole(const HeadProfile& profile, const std::string& name) {
  for (const auto& [column, held] : profile.columns) {
    const auto missing = std::find_if(held.values.begin(), held.values.end(), [](double v) { return std::isnan(v); });
    if (missing == held.values.end()) continue;
    const auto at = static_cast<size_t>(missing - held.values.begin());
    const size_t each = held.values.size() / static_cast<size_t>(profile.n_layers);
    return make_error(ErrorCode::kData, "{}: {} of layer {}{} is missing or no number", name, quote(column), at / each,
                      each > 1 ? fmt::format(", head {}", at % each) : "");
  }
  return {};
}

}  // namespace

Result<HeadProfile> parse_head_profile(const std::string& text, const std::string& name,
                                       const attention::ModelShape& shape) {
  FOVEA_ASSIGN_OR_RETURN(const Json json, parse_json(text, name));
  if (!json.is_object()) return make_error(ErrorCode::kData, "{}: not a head profile (no JSON object)", name);
  const auto version = json.find("version");
  if (version == json.end() || *version != kVersion) {
    return make_error(ErrorCode::kData, "{}: version must be {}", name, kVersion);
  }
  const auto sha256 = json.find("model_sha256");
  if (sha256 == json.end() || !sha256->is_string())
    return make_error(ErrorCode::kData, "{}: model_sha256 is missing", name);
  for (const auto& [key, size] : {std::pair("n_layers", shape.n_layers), std::pair("n_heads", shape.n_heads),
                                  std::pair("n_kv_heads", shape.n_kv_heads)}) {
    if (const auto it = json.find(key); it != json.end() && *it != size)
      return make_error(ErrorCode::kData, "{}: {} is {}; this model has {}", name, key, escaped_line(it->dump()), size);
  }
  HeadProfile profile{.model_sha256 = *sha256,
                      .n_layers = shape.n_layers,
                      .n_heads = shape.n_heads,
                      .n_kv_heads = shape.n_kv_heads,
                      .columns = {}};
  for (const List& list : kLists) {
    const auto entries = json.find(list.key);
    if (entries != json.end()) {
      FOVEA_RETURN_IF_ERROR(add_list(*entries, list, name, profile));
    } else if (list.of == Granularity::kHead) {
      return make_error(ErrorCode::kData, "{}: {} must be a list", name, list.key);
    }
  }
  if (const auto whole = json.find("model"); whole != json.end()) {
    if (!whole->is_object()) return make_error(ErrorCode::kData, "{}: model must be an object", name);
    FOVEA_RETURN_IF_ERROR(add_values(*whole, Granularity::kModel, 0, name, profile));
  }
  FOVEA_RETURN_IF_ERROR(check_whole(profile, name));
  return profile;
}

Result<std::shared_ptr<const HeadProfile>> read_head_profile(const std::string& path, const Model& model,
                                                             const tensor::Adapters* adapters) {
  FOVEA_ASSIGN_OR_RETURN(const std::string text, read_file(path, kMaxBytes));
  FOVEA_ASSIGN_OR_RETURN(HeadProfile profile, parse_head_profile(text, quote(path, 4096), model.shape()));
  FOVEA_ASSIGN_OR_RETURN(const std::string sha256, weights_sha256(model, adapters));
  if (profile.model_sha256 != sha256) {
    return make_error(ErrorCode::kData, "{}: a profile of another model file ({}, this one is {})", quote(path, 4096),
                      quote(profile.model_sha256), sha256);
  }
  return std::make_shared<const HeadProfile>(std::move(profile));
}

}  // namespace fovea::engine
