// fovea template -m MODEL --messages FILE.json
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/cli/chat_flags.h"
#include "apps/cli/command.h"
#include "fovea/base/bytes.h"
#include "fovea/engine/chat.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/store/model_store.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::cli {
namespace template_command {

using Json = nlohmann::ordered_json;
struct Options {
  std::string file;
  bool no_generation_prompt = false, tokens = false;
  ChatFlags chat;
};

// {"messages": [...], "tools": ..., "documents": ..., "chat_template_kwargs": {...}} as programs send it, or the list
// of messages alone. What a flag says counts more.
Result<Json> read_messages(const std::string& path, engine::ChatOptions& chat) {
  const std::string name = path == "-" ? "standard input" : escaped_line(path);
  FOVEA_ASSIGN_OR_RETURN(Json json, read_json_file(path));
  if (json.is_object() && json.contains("messages")) {
    const std::pair<const char*, Json*> lists[] = {{"tools", &chat.tools}, {"documents", &chat.documents}};
    for (const auto& [key, option] : lists) {
      if (!json.contains(key) || json[key].is_null() || !option->is_null()) continue;
      *option = json[key];
    }
    if (json.contains("chat_template_kwargs")) {
      const Json& variables = json["chat_template_kwargs"];
      if (!variables.is_object())
        return make_error(ErrorCode::kData, "{}: chat_template_kwargs must be an object", name);
      for (const auto& [key, value] : variables.items()) {
        if (!chat.variables.contains(key)) chat.variables[key] = value;
      }
    }
    json = Json(json["messages"]);
  }
  if (const Status shape = engine::check_messages(json); !shape) {
    Error e = shape.error();
    e.message = fmt::format("{}: {}", name, e.message);
    return e;
  }
  return json;
}

Status show_template(const Options& options, const Common& common) {
  FOVEA_ASSIGN_OR_RETURN(const std::string path, store::resolve_model(common.model));
  FOVEA_ASSIGN_OR_RETURN(engine::ChatOptions chat, chat_options(options.chat));
  FOVEA_ASSIGN_OR_RETURN(const Json messages, read_messages(options.file, chat));
  FOVEA_ASSIGN_OR_RETURN(const auto source, formats::open_model(path));
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, engine::load_tokenizer(*source));
  chat.add_generation_prompt = !options.no_generation_prompt;
  if (!options.tokens) {
    FOVEA_ASSIGN_OR_RETURN(const std::string prompt, engine::render_chat(*source, *tokenizer, messages, chat));
    return common.json ? print_json({{"prompt", prompt}}) : print(stdout_is_terminal() ? escaped_text(prompt) : prompt);
  }
  FOVEA_ASSIGN_OR_RETURN(const engine::ChatPrompt prompt, engine::encode_chat(*source, *tokenizer, messages, chat));
  if (!common.json) {
    std::string out;
    for (const int32_t id : prompt.tokens) out += fmt::format("{:>7}  {}\n", id, quote(tokenizer->piece(id), SIZE_MAX));
    return print(out);
  }
  nlohmann::json tokens = nlohmann::json::array();
  for (const int32_t id : prompt.tokens)
    tokens.push_back({{"id", id}, {"piece", tokenizers::replace_invalid_utf8(tokenizer->piece(id))}});
  return print_json({{"prompt", prompt.text}, {"tokens", std::move(tokens)}});
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  sub.add_option("-m,--model", common.model, "a name from `fovea list --all`, a .gguf file or a Hugging Face folder")
      .required();
  sub.add_option("--messages", options->file,
                 "a JSON file: [{\"role\": \"user\", \"content\": \"...\"}, ...]; - is standard input")
      .required();
  sub.add_flag("--no-generation-prompt", options->no_generation_prompt, "do not open the model's answer at the end");
  sub.add_flag("--tokens", options->tokens, "also the token ids, in which what messages and tools spell stays text");
  add_chat_flags(sub, options->chat);
  return [options, &common] { return show_template(*options, common); };
}

FOVEA_COMMAND("template", "a chat as the model reads it: messages through the model's chat template",
              "fovea template -m smollm2-135m --messages - <<< '[{\"role\": \"user\", \"content\": \"Hi\"}]'", setup)

}  // namespace template_command
}  // namespace fovea::cli
