// A model that has no files yet: its sizes, as a config.json says them.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "fovea/formats/key_source.h"
#include "fovea/train/part.h"

namespace fovea::train {

class Net {
 public:
  struct Context {
    int64_t context = 0;     // what n_ctx is where it is not said
    int64_t vocab_size = 0;  // of the tokenizer; 0: vocab_size must be said
  };
  virtual ~Net() = default;
  virtual nlohmann::ordered_json config() const = 0;
};

// What decoders have in common, as a config.json has it: the settings of docs/train.md under "llama".
nlohmann::ordered_json decoder_config(Settings& s, const Net::Context& context);

using formats::FolderFile;
// The files of a tokenizer, out of a folder of Hugging Face, or of "bytes": token i is byte i.
Result<std::vector<FolderFile>> tokenizer_files(const std::string& from);

// What ModelSource asks of files, answered from `config` and those of a tokenizer; there are no tensors.
Result<std::shared_ptr<const formats::ModelSource>> source_of(const nlohmann::ordered_json& config,
                                                              std::vector<FolderFile> tokenizer,
                                                              const std::string& name);

}  // namespace fovea::train
