// fovea template -m MODEL --messages FILE.json
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/engine/chat.h"
#include "fovea/engine/model_store.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::cli {
namespace {

using Json = nlohmann::ordered_json;
constexpr uint64_t kMaxFileBytes = uint64_t{32} << 20;
constexpr int kMaxDepth = 64;

struct Options {
  std::string file;
  bool no_generation_prompt = false, tokens = false;
};

Result<Json> parse(const std::string& text, const std::string& name) {
  int deepest = 0;
  try {
    const auto watch = [&](int depth, Json::parse_event_t, Json&) {
      deepest = std::max(deepest, depth);
      return depth <= kMaxDepth;  // what is deeper is left out
    };
    Json json = Json::parse(text, watch);
    if (deepest > kMaxDepth) return make_error(ErrorCode::kLimit, "{}: it is nested deeper than {}", name, kMaxDepth);
    return json;
  } catch (const Json::parse_error& e) {
    const size_t at = std::min<size_t>(e.byte > 0 ? e.byte - 1 : 0, text.size());
    const std::string before = text.substr(0, at);
    const size_t line_start = before.rfind('\n') == std::string::npos ? 0 : before.rfind('\n') + 1;
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const std::string_view what = at < text.size() ? std::string_view(text).substr(at, 1) : std::string_view();
    const std::string seen = what.empty() ? "it ends there" : "unexpected " + quoted(what, SIZE_MAX);
    return make_error(ErrorCode::kData, "{}, line {}, column {}: not JSON: {}", name, line, at - line_start + 1, seen);
  }
}

// {"messages": [...]} as programs send it, or the list alone.
Result<Json> read_messages(const std::string& path) {
  const std::string name = path == "-" ? "standard input" : path;
  FOVEA_ASSIGN_OR_RETURN(const std::string text, read_file(path, kMaxFileBytes));
  FOVEA_ASSIGN_OR_RETURN(Json json, parse(text, name));
  if (json.is_object() && json.contains("messages")) json = Json(json["messages"]);
  if (const Status shape = engine::check_messages(json); !shape) {
    Error e = shape.error();
    e.message = fmt::format("{}: {}", name, e.message);
    return e;
  }
  return json;
}

Status show_template(const Options& options, const Common& common) {
  FOVEA_ASSIGN_OR_RETURN(const std::string path, engine::resolve_model(common.model));
  FOVEA_ASSIGN_OR_RETURN(const Json messages, read_messages(options.file));
  FOVEA_ASSIGN_OR_RETURN(const auto gguf, formats::Gguf::open(path));
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, engine::load_tokenizer(*gguf));
  engine::ChatOptions chat;
  chat.add_generation_prompt = !options.no_generation_prompt;
  if (!options.tokens) {
    FOVEA_ASSIGN_OR_RETURN(const std::string prompt, engine::render_chat(*gguf, *tokenizer, messages, chat));
    return common.json ? print_json({{"prompt", prompt}}) : print(printable(prompt));
  }
  FOVEA_ASSIGN_OR_RETURN(const engine::ChatPrompt prompt, engine::encode_chat(*gguf, *tokenizer, messages, chat));
  if (!common.json) {
    std::string out;
    for (const int32_t id : prompt.tokens)
      out += fmt::format("{:>7}  {}\n", id, quoted(tokenizer->piece(id), SIZE_MAX));
    return print(out);
  }
  nlohmann::json tokens = nlohmann::json::array();
  for (const int32_t id : prompt.tokens)
    tokens.push_back({{"id", id}, {"piece", tokenizers::replace_invalid_utf8(tokenizer->piece(id))}});
  return print_json({{"prompt", prompt.text}, {"tokens", std::move(tokens)}});
}

std::function<Status()> setup(CLI::App& sub, Common& common) {
  auto options = std::make_shared<Options>();
  sub.add_option("-m,--model", common.model, "a name from `fovea list` or the path of a .gguf file")->required();
  sub.add_option("--messages", options->file,
                 "a JSON file: [{\"role\": \"user\", \"content\": \"...\"}, ...]; - is standard input")
      ->required();
  sub.add_flag("--no-generation-prompt", options->no_generation_prompt, "do not open the model's answer at the end");
  sub.add_flag("--tokens", options->tokens, "also the token ids, in which what contents spell stays text");
  return [options, &common] { return show_template(*options, common); };
}

FOVEA_COMMAND("template", "a chat as the model reads it: messages through the model's chat template",
              "fovea template -m smollm2-135m --messages - <<< '[{\"role\": \"user\", \"content\": \"Hi\"}]'", setup)

}  // namespace
}  // namespace fovea::cli
