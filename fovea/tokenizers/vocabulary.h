// The vocabulary of a tokenizer, as a model's files say it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fovea::tokenizers {

// As in a GGUF file's tokenizer.ggml.token_type.
enum class TokenType : uint8_t { kUndefined = 0, kNormal, kUnknown, kControl, kUserDefined, kUnused, kByte };

// The files of a folder's tokenizer, whole; those that are not there are empty.
struct TokenizerFiles {
  std::string_view tokenizer_json, tokenizer_model, vocab_json, merges_txt, vocab_txt, tokenizer_config,
      special_tokens_map, added_tokens;
};

// What a model file says; the views need only outlive create().
struct Vocabulary {
  std::string name;                      // of the file, for messages
  std::string kind;                      // "gpt2": byte-level pairs, the only kind here; "files": what `files` hold
  std::string pre;                       // how text is cut first: smollm, qwen2, gpt-2, llama-bpe
  std::vector<std::string_view> tokens;  // id -> spelling, bytes as characters
  std::vector<TokenType> types;          // empty: all kNormal
  std::vector<std::string_view> merges;  // "left right", best first
  int32_t bos = -1, eos = -1, eot = -1, eom = -1, unknown = -1, padding = -1;  // -1: none
  bool add_bos = false, add_eos = false;
  // Of kind "files". The ids above are then those of config.json and generation_config.json; what the files say of the
  // same tokens comes first.
  TokenizerFiles files;
  std::vector<int32_t> more_ends;  // ids that end a text besides eos, eot and eom
};

}  // namespace fovea::tokenizers
