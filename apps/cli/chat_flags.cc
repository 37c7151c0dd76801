#include "apps/cli/chat_flags.h"

#include "fovea/base/bytes.h"
#include "fovea/base/json.h"
#include "fovea/base/text_file.h"
#include "fovea/tokenizers/chat_template.h"

namespace fovea::cli {
namespace {

using Json = nlohmann::ordered_json;
constexpr uint64_t kMaxFileBytes = uint64_t{32} << 20;

// A list, or an object with it under its own name, as requests have it.
Result<Json> read_list(const std::string& path, const char* key) {
  FOVEA_ASSIGN_OR_RETURN(Json json, read_json_file(path));
  if (json.is_object() && json.contains(key)) json = Json(json[key]);
  if (!json.is_array())
    return make_error(ErrorCode::kData, "{}: {} must be a list", path == "-" ? "standard input" : escaped_line(path),
                      key);
  return json;
}

}  // namespace

Result<Json> read_json_file(const std::string& path) { return read_json(path, kMaxFileBytes); }

void add_chat_flags(CommandLine& sub, ChatFlags& flags) {
  sub.add_option("--tools", flags.tools, "a JSON file: a list of tools for the chat template");
  sub.add_option("--documents", flags.documents, "a JSON file: a list of documents for the chat template");
  sub.add_option("--template-var", flags.variables,
                 "NAME=JSON, a variable of the chat template: enable_thinking=false; may be given several times")
      .collect();
  const Option text = sub.add_option("--chat-template", flags.source, "a chat template instead of the model's")
                          .check([](const std::string& value) { return value.empty() ? "it is empty" : ""; });
  sub.add_option("--chat-template-file", flags.source_file, "a file with it").excludes(text);
}

Result<engine::ChatOptions> chat_options(const ChatFlags& flags) {
  engine::ChatOptions out;
  if (!flags.tools.empty()) {
    FOVEA_ASSIGN_OR_RETURN(out.tools, read_list(flags.tools, "tools"));
  }
  if (!flags.documents.empty()) {
    FOVEA_ASSIGN_OR_RETURN(out.documents, read_list(flags.documents, "documents"));
  }
  out.variables = Json::object();
  for (const std::string& variable : flags.variables) {
    const size_t equals = variable.find('=');
    if (equals == std::string::npos || equals == 0)
      return make_error(ErrorCode::kUsage, "--template-var wants NAME=JSON and got {}", quote(variable, 80));
    const std::string name = variable.substr(0, equals);
    auto value = parse_json(variable.substr(equals + 1), "--template-var " + name);
    if (!value) return make_error(ErrorCode::kUsage, "{} (a text needs quotes)", value.error().message);
    out.variables[name] = std::move(*value);
  }
  out.source = flags.source;
  if (!flags.source_file.empty()) {
    FOVEA_ASSIGN_OR_RETURN(out.source,
                           read_text_file(flags.source_file, {.max_bytes = tokenizers::ChatTemplate::kMaxSourceBytes}));
    if (out.source.empty()) return make_error(ErrorCode::kData, "{}: it is empty", quote(flags.source_file));
  }
  FOVEA_RETURN_IF_ERROR(engine::check_chat_options(out));
  return out;
}

}  // namespace fovea::cli
