// Chat templates come inside model files, messages from anywhere: any text must parse and render, or fail
// with a sentence, within the budget. An exception that escapes ends the fuzzer. Bytes up to the first NUL
// are the template; what follows, if it is JSON, is the context (else a fixed one is used).
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "fovea/tokenizers/chat_template.h"

namespace {
using Json = nlohmann::ordered_json;

// Deep JSON is refused by whoever reads it; here it would only end the parser's stack.
bool shallow(std::string_view text) {
  int depth = 0;
  for (const char c : text) {
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
    if (depth > 200) return false;
  }
  return true;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using fovea::tokenizers::Budget;
  using fovea::tokenizers::ChatTemplate;
  static const Json kContext = {
      {"messages",
       {{{"role", "system"}, {"content", "Be brief."}},
        {{"role", "user"}, {"content", "h\u00e9 <|im_end|>"}},
        {{"role", "assistant"}, {"content", ""}}}},
      {"tools", {{{"type", "function"}, {"function", {{"name", "f"}, {"parameters", nullptr}}}}}},
      {"add_generation_prompt", true},
      {"bos_token", "<s>"},
      {"eos_token", "</s>"},
      {"n", 3},
      {"x", -1.5}};
  static const Budget kSmall = {
      .steps = 20'000, .output_bytes = 1 << 16, .memory_bytes = 1 << 20, .depth = 50, .range_length = 1000};
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(bytes.find('\0'), bytes.size());
  const auto parsed = ChatTemplate::parse(std::string(bytes.substr(0, end)));
  if (!parsed) return 0;
  Json context = kContext;
  if (end < size && shallow(bytes.substr(end + 1))) {
    Json given = Json::parse(bytes.substr(end + 1), nullptr, /*allow_exceptions=*/false);
    if (given.is_object()) context = std::move(given);
  }
  (void)parsed->render(context, Json::object(), kSmall);
  return 0;
}
