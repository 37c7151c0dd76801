// Renders chat templates for tools/compare_templates.py: {"template", "context"} a line in, {"text"} or
// {"error"} a line out.
#include <iostream>

#include "fovea/tokenizers/chat_template.h"

int main() {
  using Json = nlohmann::ordered_json;
  using fovea::tokenizers::ChatTemplate;
  for (std::string line; std::getline(std::cin, line);) {
    const Json in = Json::parse(line);
    const auto parsed = ChatTemplate::parse(in["template"].get<std::string>());
    const auto text =
        parsed ? parsed->render(in["context"]) : fovea::Result<fovea::tokenizers::Rendered>(parsed.error());
    const Json out = text ? Json{{"text", text->text}}
                          : Json{{"error", text.error().message}, {"code", fovea::name_of(text.error().code)}};
    std::cout << out.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
  }
  return 0;
}
