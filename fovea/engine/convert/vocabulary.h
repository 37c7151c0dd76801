// The tokenizer and the chat templates of a model for the other kind of file.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "fovea/formats/gguf_file_writer.h"
#include "fovea/formats/key_source.h"
#include "fovea/models/support/config.h"

namespace fovea::engine {

// Keys "tokenizer.*" of what a folder has; one without a tokenizer is "no_vocab".
Status put_vocabulary(const formats::ModelSource& folder, const models::Config& config, formats::GgufKeys& keys,
                      std::vector<std::string>& notes);
// tokenizer.json, tokenizer_config.json, generation_config.json, chat_template.jinja; ids go into `words`, which
// becomes config.json.
Status put_tokenizer_files(const formats::ModelSource& gguf, const models::Config& config,
                           nlohmann::ordered_json& words, std::vector<formats::FolderFile>& files,
                           std::vector<std::string>& notes);

}  // namespace fovea::engine
