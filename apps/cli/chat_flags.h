// What goes into a chat template beside the messages, for the commands that render one.
#pragma once

#include <string>
#include <vector>

#include "apps/cli/options.h"
#include "fovea/engine/chat.h"

namespace fovea::cli {

struct ChatFlags {
  std::string tools, documents, source, source_file;
  std::vector<std::string> variables;  // NAME=JSON
  bool any() const {
    return !tools.empty() || !documents.empty() || !source.empty() || !source_file.empty() || !variables.empty();
  }
};
// --tools, --documents, --template-var, --chat-template, --chat-template-file
void add_chat_flags(CommandLine& sub, ChatFlags& flags);
Result<engine::ChatOptions> chat_options(const ChatFlags& flags);

// A JSON file; "-" is standard input. kData says the line and the column of what is not JSON.
Result<nlohmann::ordered_json> read_json_file(const std::string& path);

}  // namespace fovea::cli
