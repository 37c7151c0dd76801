// The parts of a tokenizer.json around its model: what each type of step becomes here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tokenizers/json_fields.h"
#include "fovea/tokenizers/pipeline.h"

namespace fovea::tokenizers {

// Each reads a value of the file at `path`, which may be null. kUnsupported names the type or the field that is not
// known, by its path.
Status read_normalizer(const Json& value, const std::string& file, const std::string& path,
                       std::vector<NormalizerPtr>& out, bool& makes_letters);
// `words_are_bytes`: the model takes bytes where the file says letters of bytes. `letters`: they were made letters
// before.
Status read_pre_tokenizer(const Json& value, const std::string& file, const std::string& path, bool words_are_bytes,
                          bool letters, std::vector<SplitStepPtr>& out);
Status read_post_processor(const Json& value, const std::string& file, const std::string& path, size_t vocab_size,
                           std::vector<int32_t>& prefix, std::vector<int32_t>& suffix);
Status read_decoder(const Json& value, const std::string& file, const std::string& path, Decoder& out);
// Whether a step of this type is anywhere in a normalizer or pre-tokenizer.
bool has_step(const Json& value, std::string_view type);

}  // namespace fovea::tokenizers
