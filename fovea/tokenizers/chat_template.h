// Chat templates: a sandboxed interpreter of the Jinja2 that they use, rendering as transformers does
// (trim_blocks, lstrip_blocks, loop controls, immutable sandbox). Templates come with model files and
// are not trusted: nothing outside of the context can be reached, and what a render uses is bounded.
// The rendered text says who wrote each byte of it. docs/templates.md lists what is refused.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::tokenizers {

// What one render may use; going over is a kLimit error.
struct Budget {
  int64_t steps = 2'000'000;         // expressions and statements evaluated
  int64_t output_bytes = 16 << 20;   // of the rendered text
  int64_t memory_bytes = 128 << 20;  // of all values made on the way, freed or not
  int depth = 200;                   // nested expressions, calls and values
  int64_t range_length = 100'000;    // as in jinja2's sandbox
};

// Who wrote a stretch of text: the template's author, or whoever sent the data. Data is kData, but for the content
// of messages[i], which is kContent + i.
using Owner = uint32_t;
constexpr Owner kTemplate = 0, kData = 1, kContent = 2;
struct Run {
  size_t end;  // begins where the one before ends
  Owner owner;
};
struct Rendered {
  std::string text;
  std::vector<Run> runs;            // neighbours differ
  std::vector<bool> printed_parts;  // of each message: its list of parts was printed as a list
};

namespace jinja {
struct Template;
}

class ChatTemplate {
 public:
  static constexpr size_t kMaxSourceBytes = 1 << 20;
  // A syntax error is kData and names the line; over 1 MiB of source is kLimit.
  static Result<ChatTemplate> parse(std::string source);
  // `data`: messages, tools and whatever else users send; no byte of it is ever the template's. Only a message's role
  // counts as written by the template if it is one of the usual words: templates spell tokens such as <|user|> out of
  // it. `own`: what comes with the model (bos_token, ...); on a name in both, `data` counts. raise_exception(m) is
  // kData with m.
  Result<Rendered> render(const nlohmann::ordered_json& data,
                          const nlohmann::ordered_json& own = nlohmann::ordered_json::object(),
                          Budget budget = {}) const;

 private:
  std::shared_ptr<const jinja::Template> template_;  // immutable: copies and threads may share it
};

}  // namespace fovea::tokenizers
