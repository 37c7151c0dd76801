// Models where other programs keep them (docs/hf-folders.md): the cache of the Hugging Face hub, the blobs of Ollama,
// the folder of LM Studio. Read only; links are followed where these programs make them, and nowhere else.
#pragma once

#include <string>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::store {

struct ModelElsewhere {
  std::string name;  // as -m takes it: "hf:ORG/NAME", "ollama:NAME:TAG", "lmstudio:PUBLISHER/NAME/FILE.gguf"
  std::string path;  // a folder or a GGUF file
};

// By name. What cannot be read is said in `problems`, one sentence each; a program that is not there is none.
std::vector<ModelElsewhere> models_elsewhere(std::vector<std::string>* problems);

// Does a name say another program: "hf:", "ollama:", "lmstudio:"?
bool is_elsewhere(const std::string& name);
// The path of such a name. hf: a revision may follow (ORG/NAME@REVISION), else it is the main one; a file of a
// repository with several (ORG/NAME/FILE.gguf). ollama: without a tag it is "latest". kNotFound lists the nearest
// names; kData: a manifest or a reference is wrong; kUsage: no such name.
Result<std::string> find_elsewhere(const std::string& name);

}  // namespace fovea::store
