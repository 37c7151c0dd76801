// The page of a run: curves of the loss, the norm, the rate and the speed, and its config. One file that loads nothing.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace fovea::train {

// `log` as it stands in log.jsonl; what is no line of it is left out.
std::string report_page(const std::string& log, const nlohmann::ordered_json& training);

}  // namespace fovea::train
