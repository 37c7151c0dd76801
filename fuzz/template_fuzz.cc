// Chat templates come inside model files: any text must parse and render, or fail with a sentence,
// within the budget. An exception that escapes ends the fuzzer.
#include <cstdint>
#include <string>

#include "fovea/tokenizers/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using fovea::tokenizers::Budget;
  using fovea::tokenizers::ChatTemplate;
  static const nlohmann::ordered_json kContext = {
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
  const auto parsed = ChatTemplate::parse(std::string(reinterpret_cast<const char*>(data), size));
  if (parsed) (void)parsed->render(kContext, kSmall);
  return 0;
}
