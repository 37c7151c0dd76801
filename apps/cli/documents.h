// What `ask` and `chat --file` share: the texts, the model that is fetched for them, the evidence as shown.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "apps/cli/model_session.h"
#include "fovea/engine/documents.h"
#include "fovea/probe/evidence/evidence.h"

namespace fovea::cli {

inline constexpr const char* kDefaultModel = "qwen2.5-coder-0.5b";
inline constexpr const char* kSmallModel = "smollm2-135m";

// Each file of a folder or pattern that is no text gets a line on stderr.
Result<std::vector<engine::Document>> read_documents(const std::vector<std::string>& names);
// Fetches the model if it is one of ours and not there yet.
Status fetch_if_absent(const Common& common);
// Null if the model was never measured, with a word on how to.
Result<std::shared_ptr<const attention::HeadProfile>> profile_of(const engine::Session& session, const Common& common);

std::string place_text(const engine::Document& document, int line_start, int line_end);  // "NAME:3-5"
std::string evidence_text(const std::vector<probe::EvidenceSpan>& spans,
                          const std::vector<engine::Document>& documents);
nlohmann::json evidence_json(const std::vector<probe::EvidenceSpan>& spans,
                             const std::vector<engine::Document>& documents);

}  // namespace fovea::cli
