// The chat template of a model file, rendered with the file's own special tokens.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/formats/gguf.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::engine {

// kData names the JSON path that is missing or of the wrong kind ("messages[2].content"): a non-empty
// list of objects with a string `role`, and `content` a string, null or a list of parts.
Status check_messages(const nlohmann::ordered_json& messages);

// `messages`: [{"role": ..., "content": ...}, ...], as templates expect them. kNotFound if the file has
// no template; kData with the template's own words if it refuses the messages (bad-inputs T10).
Result<std::string> render_chat(const formats::Gguf& gguf, const tokenizers::Tokenizer& tokenizer,
                                const nlohmann::ordered_json& messages, bool add_generation_prompt = true);

// The prompt's tokens: the template's own text is read with special tokens, the contents of the
// messages are not ("<|im_end|>" in a document stays text; bad-inputs T4). `offsets` as in
// Tokenizer::encode, into the rendered prompt. `contents` gets where each message's content lies in
// the rendered prompt: {begin, end} bytes, or {npos, npos} if the template changed it.
struct ChatPrompt {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<uint32_t> offsets;
  std::vector<std::pair<size_t, size_t>> contents;
};
Result<ChatPrompt> encode_chat(const formats::Gguf& gguf, const tokenizers::Tokenizer& tokenizer,
                               const nlohmann::ordered_json& messages, bool add_generation_prompt = true);

}  // namespace fovea::engine
