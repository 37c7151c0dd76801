// libFuzzer target: any bytes as a config.json, through the table of its keys and every getter. Seeds:
// tests/fuzz/hf_config.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "fovea/base/json.h"
#include "fovea/formats/hf_keys.h"
#include "fovea/formats/hf_weights.h"

namespace {

void walk(const fovea::formats::HfConfig& config) {
  const fovea::formats::KeyMap& keys = config.keys;
  for (const std::string& key : keys.keys_under("")) {
    (void)keys.get_u64(key);
    (void)keys.get_i64(key);
    (void)keys.get_f64(key);
    (void)keys.get_bool(key);
    (void)keys.get_string(key);
    (void)keys.get_strings(key);
    (void)keys.get_f64s(key);
    (void)keys.get_i64s(key);
    (void)keys.text_of(key);
  }
  for (const char* name : {"model.layers.0.self_attn.rotary_emb.inv_freq", "vision_tower.x", "lm_head.weight"})
    (void)fovea::formats::weight_name(name, config);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > (1 << 20)) return 0;
  const auto json = fovea::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!json) return 0;
  const auto config = fovea::formats::translate_config(json.value(), "fuzz");
  if (config) walk(config.value());
  if (!config && config.error().message.empty()) __builtin_trap();
  std::vector<fovea::formats::TensorInfo> none;
  if (config) (void)fovea::formats::HfWeights::pair(none, json.value(), "fuzz");
  return 0;
}
