// Renders chat templates for tools/compare_templates.py: {"template", "context"} a line in, {"text", "own"} or
// {"error"} a line out. "own" is the text with each stretch of data as one NUL.
#include <iostream>

#include "fovea/tokenizers/chat_template.h"

static std::string own_text(const fovea::tokenizers::Rendered& rendered) {
  std::string own;
  size_t begin = 0;
  for (const fovea::tokenizers::Run& run : rendered.runs) {
    if (run.owner == fovea::tokenizers::kTemplate)
      own.append(rendered.text, begin, run.end - begin);
    else if (own.empty() || own.back() != '\0')
      own += '\0';
    begin = run.end;
  }
  return own;
}

int main() {
  using Json = nlohmann::ordered_json;
  using fovea::tokenizers::ChatTemplate;
  for (std::string line; std::getline(std::cin, line);) {
    const Json in = Json::parse(line);
    const auto parsed = ChatTemplate::parse(in["template"].get<std::string>());
    const auto text =
        parsed ? parsed->render(in["context"]) : fovea::Result<fovea::tokenizers::Rendered>(parsed.error());
    const Json out = text ? Json{{"text", text->text}, {"own", own_text(*text)}}
                          : Json{{"error", text.error().message}, {"code", fovea::name_of(text.error().code)}};
    std::cout << out.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
  }
  return 0;
}
