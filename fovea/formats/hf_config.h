// The way back of hf_keys.h: a config.json of GGUF's keys, by the same table.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "fovea/base/result.h"
#include "fovea/formats/key_map.h"

namespace fovea::formats {

// `keys` are those of the model without "ARCHITECTURE." before them, and general.architecture; `name` is the model, for
// messages. kUnsupported names an architecture, or a key that asks for something that config.json has no word for.
Result<nlohmann::ordered_json> config_of(const KeyMap& keys, const std::string& name);

// What files of this architecture call the key; empty: they have no word for it.
std::string_view word_of(std::string_view key, std::string_view architecture);

}  // namespace fovea::formats
