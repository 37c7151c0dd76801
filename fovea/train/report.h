// Pages of a run: curves of the loss, the norm, the rate and the speed, and its config; how its heads formed. Each is
// one file that loads nothing.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace fovea::train {

// `log` as it stands in log.jsonl; what is no line of it is left out.
std::string report_page(const std::string& log, const nlohmann::ordered_json& training);

// Of the models kept over a run: the loss over steps, and of each layer the best head in each of the measures.
// {"run": ..., "steps": [{"step", "eval_loss", MEASURE: [[of each head] of each layer]}]}; what is no number is left
// out.
std::string heads_page(const nlohmann::ordered_json& run);

}  // namespace fovea::train
