// --look, and a second look at an answer as it is shown (probe/evidence/look.h).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "apps/cli/command.h"
#include "fovea/engine/document.h"
#include "fovea/probe/evidence/look.h"

namespace fovea::cli {

// once, twice, or auto: twice where that costs no more than a tenth of the first reading.
void add_look_flag(CommandLine& sub, std::string& look);
probe::LookOptions look_options(const std::string& look);

// What is given as the answer: the chosen one, or that the text does not say.
std::string answer_text(const probe::Looked& looked);
// [{"view", "answer", "logprob", ...}]: the first answer, then the passages.
nlohmann::json looks_json(const probe::Looked& looked, const std::vector<engine::Document>& documents);
// What the second look found, under the first answer.
std::string looks_text(const probe::Looked& looked, const std::vector<engine::Document>& documents);

}  // namespace fovea::cli
