// The vocabulary of a tokenizer, as a model's files say it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fovea::tokenizers {

// As in a GGUF file's tokenizer.ggml.token_type.
enum class TokenType : uint8_t { kUndefined = 0, kNormal, kUnknown, kControl, kUserDefined, kUnused, kByte };

// What a model file says; the views need only outlive create().
struct Vocabulary {
  std::string name;                      // of the file, for messages
  std::string kind;                      // "gpt2": byte-level pairs, the only kind here
  std::string pre;                       // how text is cut first: smollm, qwen2, gpt-2, llama-bpe
  std::vector<std::string_view> tokens;  // id -> spelling, bytes as characters
  std::vector<TokenType> types;          // empty: all kNormal
  std::vector<std::string_view> merges;  // "left right", best first
  int32_t bos = -1, eos = -1, eot = -1, eom = -1, unknown = -1, padding = -1;  // -1: none
  bool add_bos = false, add_eos = false;
};

}  // namespace fovea::tokenizers
