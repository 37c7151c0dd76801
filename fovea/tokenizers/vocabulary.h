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
  std::string kind;                      // GGUF's "gpt2", "llama", "bert", "t5"; or "files": then only `files` counts
  std::string pre;                       // of "gpt2": how text is cut first (see pretokenize.h)
  std::vector<std::string_view> tokens;  // id -> spelling
  std::vector<TokenType> types;          // empty: all kNormal
  std::vector<float> scores;             // of "llama" and "t5"
  std::vector<std::string_view> merges;  // of "gpt2": "left right", best first
  std::string_view charsmap;             // of "t5": SentencePiece's table, see charsmap.h; empty: none
  bool add_space_prefix = true;          // of "llama" and "t5": a text begins as if a space stood before it
  bool remove_extra_whitespaces = false;
  int32_t bos = -1, eos = -1, eot = -1, eom = -1, unknown = -1, padding = -1;  // -1: none
  int32_t separator = -1;                                                      // of "bert": behind a text
  bool add_bos = false, add_eos = false;
  // Of kind "files". The ids above are then those of config.json and generation_config.json; what the files say of the
  // same tokens comes first.
  TokenizerFiles files;
  std::vector<int32_t> more_ends;  // ids that end a text besides eos, eot and eom
};

}  // namespace fovea::tokenizers
