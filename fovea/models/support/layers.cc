#include "fovea/models/support/layers.h"

#include <fmt/format.h>

#include <algorithm>

#include "fovea/base/bytes.h"

namespace fovea::models {

using attention::AttentionShape;

std::vector<AttentionShape>& sites(Config& config) {
  auto& all = config.shape.attention;
  if (all.empty()) {
    all.assign(static_cast<size_t>(config.shape.n_layers), config.shape.site(0));
  }
  return all;
}

std::vector<FamilyKey> with_windows(std::vector<FamilyKey> keys) {
  std::erase_if(keys, [](const FamilyKey& key) { return key.name == "attention.sliding_window"; });
  keys.insert(keys.end(),
              {{"attention.sliding_window"}, {"attention.sliding_window_pattern"}, {"attention.layer_types"}});
  return keys;
}

namespace {

constexpr std::string_view kSize = "attention.sliding_window", kTypes = "attention.layer_types",
                           kPattern = "attention.sliding_window_pattern";

// Whether each layer has a window.
Result<std::vector<bool>> sliding_layers(const Keys& keys, int n_layers, const std::function<bool(int)>& slides,
                                         bool first_is_full) {
  std::vector<bool> out;
  const auto n = static_cast<size_t>(n_layers);
  if (keys.has(kTypes)) {
    FOVEA_ASSIGN_OR_RETURN(const auto types, keys.texts(kTypes, n));
    for (const std::string_view type : types) {
      if (type != "sliding_attention" && type != "full_attention")
        return keys.problem(ErrorCode::kUnsupported, kTypes,
                            fmt::format("names {}; sliding_attention and full_attention are supported", quote(type)));
      out.push_back(type == "sliding_attention");
    }
    return out;
  }
  if (keys.has(kPattern) && keys.source().get_u64(keys.name(kPattern))) {
    FOVEA_ASSIGN_OR_RETURN(const int64_t period, keys.size(kPattern, 1, ModelSizes::kMaxLayers));
    for (int l = 0; l < n_layers; ++l) out.push_back(l % period != (first_is_full ? 0 : period - 1));
    return out;
  }
  if (keys.has(kPattern)) {
    FOVEA_ASSIGN_OR_RETURN(const auto flags, keys.integers(kPattern, n));
    for (const int64_t flag : flags) out.push_back(flag != 0);
    return out;
  }
  for (int l = 0; l < n_layers; ++l) out.push_back(slides(l));
  return out;
}

}  // namespace

Status read_windows(const Keys& keys, Config& config, const std::function<bool(int layer)>& slides,
                    const WindowDefaults& defaults) {
  FOVEA_ASSIGN_OR_RETURN(const std::vector<bool> sliding,
                         sliding_layers(keys, config.shape.n_layers, slides, defaults.first_is_full));
  FOVEA_ASSIGN_OR_RETURN(const int64_t size, keys.size_or(kSize, defaults.size, 0, INT_MAX));
  for (size_t l = 0; l < sliding.size(); ++l) {
    if (!sliding[l]) continue;
    if (config.ropes.size() > 1) sites(config)[l].rope = 1;
    if (size > 0) sites(config)[l].window = static_cast<int>(size);
  }
  return {};
}

Status read_no_rope_layers(const Keys& keys, Config& config, int interval) {
  constexpr const char *kLayers = "no_rope_layers", *kInterval = "no_rope_layer_interval";
  const int n_layers = config.shape.n_layers;
  std::vector<int64_t> turns;
  if (keys.has(kLayers)) {
    FOVEA_ASSIGN_OR_RETURN(turns, keys.integers(kLayers, static_cast<size_t>(n_layers)));
  } else {
    FOVEA_ASSIGN_OR_RETURN(const int64_t every, keys.size_or(kInterval, interval, 1, ModelSizes::kMaxLayers));
    for (int l = 0; l < n_layers; ++l) turns.push_back((l + 1) % every != 0);
  }
  for (size_t l = 0; l < turns.size(); ++l) {
    if (turns[l] == 0) sites(config)[l].rope = AttentionShape::kNoRope;
  }
  return {};
}

void look_both_ways(Config& config) {
  for (AttentionShape& site : sites(config)) site.causal = false;
}

void use_learned_positions(Config& config) {
  for (AttentionShape& site : sites(config)) site.rope = AttentionShape::kNoRope;
  config.shape.max_positions = config.shape.n_ctx;
}

}  // namespace fovea::models
