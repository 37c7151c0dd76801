// The chat template of a model file, rendered with the file's own special tokens.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/formats/source.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::engine {

// kData names the JSON path that is missing or of the wrong kind ("messages[2].content"): a non-empty
// list of objects with a string `role`, and `content` a string, null or a list of parts.
Status check_messages(const nlohmann::ordered_json& messages);

// What a prompt is made of beside the messages. All of it is data but for `source`: nothing that it spells is a token.
struct ChatOptions {
  bool add_generation_prompt = true;
  nlohmann::ordered_json tools, documents;  // null: none
  nlohmann::ordered_json variables;         // null, or an object: enable_thinking and whatever else a template asks for
  std::string source;                       // a template to use instead of the file's; empty: the file's
};
// kData names what is of the wrong kind: tools and documents are lists, a variable is none of the names that have
// arguments of their own.
Status check_chat_options(const ChatOptions& options);

// `messages`: [{"role": ..., "content": ...}, ...]. They reach the template as they are; if it prints a list of text
// parts as a list, or fails, it is asked again with the texts joined (a line each), then without null members.
// kNotFound if the file has no template; kData with the template's own words if it refuses the messages (bad-inputs
// T10).
Result<std::string> render_chat(const formats::ModelSource& model, const tokenizers::Tokenizer& tokenizer,
                                const nlohmann::ordered_json& messages, const ChatOptions& options = {});

// The prompt's tokens: only what the template's author wrote is read with special tokens ("<|im_end|>" in a document,
// an argument or a tool's name stays text, whatever the template does to it; bad-inputs T4). `offsets` as in
// Tokenizer::encode, into the rendered prompt. `contents` gets where each message's content lies in
// the rendered prompt: {begin, end} bytes, or {npos, npos} if the template changed it.
struct ChatPrompt {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<uint32_t> offsets;
  std::vector<std::pair<size_t, size_t>> contents;
};
Result<ChatPrompt> encode_chat(const formats::ModelSource& model, const tokenizers::Tokenizer& tokenizer,
                               const nlohmann::ordered_json& messages, const ChatOptions& options = {});

}  // namespace fovea::engine
