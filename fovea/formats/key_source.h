// A ModelSource whose metadata were JSON: they lie in a KeyMap under GGUF's names, and tensors have Hugging Face's.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fovea/formats/key_map.h"
#include "fovea/formats/source.h"

namespace fovea::formats {

class KeySource : public ModelSource {
 public:
  virtual const KeyMap& keys() const = 0;

  bool has(std::string_view key) const override { return keys().has(key); }
  std::vector<std::string> keys_under(std::string_view prefix) const override { return keys().keys_under(prefix); }
  Result<uint64_t> get_u64(std::string_view key) const override { return keys().get_u64(key); }
  Result<int64_t> get_i64(std::string_view key) const override { return keys().get_i64(key); }
  Result<double> get_f64(std::string_view key) const override { return keys().get_f64(key); }
  Result<bool> get_bool(std::string_view key) const override { return keys().get_bool(key); }
  Result<std::string> get_string(std::string_view key) const override { return keys().get_string(key); }
  Result<std::vector<std::string_view>> get_strings(std::string_view key) const override {
    return keys().get_strings(key);
  }
  Result<std::vector<double>> get_f64s(std::string_view key) const override { return keys().get_f64s(key); }
  Result<std::vector<int64_t>> get_i64s(std::string_view key) const override { return keys().get_i64s(key); }
  std::string text_of(std::string_view key) const override { return keys().text_of(key); }
  std::string called(std::string_view key) const override { return keys().called(key); }
  tensor::RopePairing rope_pairing(const tensor::StoredPairing& of_family) const override { return of_family.hf; }
};

// The files of a tokenizer in a folder, by their names. Of two with the same member the first that is there counts.
inline constexpr std::pair<const char*, std::string_view tokenizers::TokenizerFiles::*> kTokenizerFiles[] = {
    {"tokenizer.json", &tokenizers::TokenizerFiles::tokenizer_json},
    {"tokenizer.model", &tokenizers::TokenizerFiles::tokenizer_model},
    {"spiece.model", &tokenizers::TokenizerFiles::tokenizer_model},
    {"sentencepiece.bpe.model", &tokenizers::TokenizerFiles::tokenizer_model},
    {"vocab.json", &tokenizers::TokenizerFiles::vocab_json},
    {"merges.txt", &tokenizers::TokenizerFiles::merges_txt},
    {"vocab.txt", &tokenizers::TokenizerFiles::vocab_txt},
    {"tokenizer_config.json", &tokenizers::TokenizerFiles::tokenizer_config},
    {"special_tokens_map.json", &tokenizers::TokenizerFiles::special_tokens_map},
    {"added_tokens.json", &tokenizers::TokenizerFiles::added_tokens}};

// A file of a folder: its name in it, and what it holds.
struct FolderFile {
  std::string name, content;
};

}  // namespace fovea::formats
