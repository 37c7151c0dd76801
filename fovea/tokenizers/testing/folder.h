// The tokenizer of a folder, for tools and benchmarks: no model has to be beside it.
#pragma once

#include <filesystem>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "fovea/base/file.h"
#include "fovea/tokenizers/tokenizer.h"
#include "fovea/tokenizers/vocabulary.h"

namespace fovea::tokenizers {

inline Result<std::shared_ptr<const Tokenizer>> tokenizer_of_folder(const std::string& path) {
  Vocabulary v;
  v.name = path;
  v.kind = "files";
  std::list<std::string> kept;
  const std::pair<const char*, std::string_view*> files[] = {{"tokenizer.json", &v.files.tokenizer_json},
                                                             {"tokenizer.model", &v.files.tokenizer_model},
                                                             {"vocab.json", &v.files.vocab_json},
                                                             {"merges.txt", &v.files.merges_txt},
                                                             {"vocab.txt", &v.files.vocab_txt},
                                                             {"tokenizer_config.json", &v.files.tokenizer_config},
                                                             {"special_tokens_map.json", &v.files.special_tokens_map},
                                                             {"added_tokens.json", &v.files.added_tokens}};
  for (const auto& [name, view] : files) {
    if (!std::filesystem::exists(path + "/" + name)) continue;
    FOVEA_ASSIGN_OR_RETURN(std::string bytes, read_file(path + "/" + name));
    *view = kept.emplace_back(std::move(bytes));
  }
  return Tokenizer::create(v);
}

}  // namespace fovea::tokenizers
