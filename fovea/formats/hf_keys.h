// The one table that turns the words of Hugging Face's config.json into GGUF's keys, so that a family reads both alike.
// A field that no row knows becomes a key under its own name ("llama.some_field"): read_config refuses it by name.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/formats/key_map.h"

namespace fovea::formats {

struct HfConfig {
  KeyMap keys;
  std::string architecture;   // as general.architecture spells it
  std::string tensor_prefix;  // what the names of its tensors begin with: "model."
  std::string copied;         // a weight that folders may hold again under other names: "shared.weight"
  bool untied = false;        // a decoder whose unembedding is not its embedding: there must be one
  std::vector<std::string> warnings;
};

// kData, kUnsupported: what is wrong with the file `name` (quoted, for messages). What is right in form may still ask
// for something that no family here does.
Result<HfConfig> translate_config(const nlohmann::ordered_json& config, const std::string& name);

// What becomes of a tensor's name: the name that families know, or nothing where it is no weight (masks and tables that
// old versions stored) or belongs to a part that does not run here (a vision tower).
std::string weight_name(std::string_view stored, const HfConfig& config);

}  // namespace fovea::formats
