// Chat templates: a sandboxed interpreter of the Jinja2 that they use, rendering as transformers does
// (trim_blocks, lstrip_blocks, loop controls, immutable sandbox). Templates come with model files and
// are not trusted: nothing outside of the context can be reached, and what a render uses is bounded.
// Not done: integers are 64 bits (more is a kLimit error), no markup-safe strings, no other templates.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

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

namespace jinja {
struct Template;
}

class ChatTemplate {
 public:
  static constexpr size_t kMaxSourceBytes = 1 << 20;
  // A syntax error is kData and names the line; over 1 MiB of source is kLimit.
  static Result<ChatTemplate> parse(std::string source);
  // `context`: messages, add_generation_prompt, bos_token, tools, ... raise_exception(m) is kData with m.
  Result<std::string> render(const nlohmann::ordered_json& context, Budget budget = {}) const;

 private:
  std::shared_ptr<const jinja::Template> template_;  // immutable: copies and threads may share it
};

}  // namespace fovea::tokenizers
