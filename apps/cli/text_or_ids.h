// What a command reads: a text, or ids of tokens from a file (--ids), to which nothing is added.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli/model_session.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::cli {

struct TextOrIdsFlags {
  TextFlags text;
  std::string ids_file;
  Option ids;
};
// --ids beside what add_text_flags() adds.
void add_text_or_ids_flags(CommandLine& sub, TextOrIdsFlags& flags, const std::string& what, bool with_prompt_flag);

struct TextOrIds {
  std::string text;
  std::optional<std::vector<int64_t>> ids;

  // kUsage for an id that the vocabulary does not have; the tokenizer is asked for a text alone.
  Result<std::vector<int32_t>> tokens(const engine::Model& model, const tokenizers::EncodeOptions& encode) const;
  Result<std::vector<int32_t>> checked_ids(int64_t vocab_size) const;
};
// kUsage if none or more than one was given.
Result<TextOrIds> read_text_or_ids(const TextOrIdsFlags& flags);

}  // namespace fovea::cli
