// What was measured, kept from run to run: one file for each cell of an arms table, written whole or not at all, so
// that a run that was ended goes on where it was. A cell is known by its key, which must name all that its values
// depend on.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "fovea/base/result.h"

namespace fovea::papers {

using Json = nlohmann::ordered_json;

struct CellValues {
  Json values;         // an object
  double seconds = 0;  // that measuring took
  bool kept = false;   // was measured by an earlier run
};

class CellStore {
 public:
  // `dir` need not exist; empty, or a folder that others may write into: cells are kept in memory alone.
  explicit CellStore(std::string dir, bool again = false);  // again: what earlier runs kept is measured anew
  // The values of a cell: those kept, else what `measure` gives. A file that is damaged or of another key is replaced.
  Result<CellValues> get(const Json& key, const std::function<Result<Json>()>& measure);
  std::string path_of(const Json& key) const;

 private:
  std::string dir_;
  bool again_;
  std::map<std::string, CellValues> seen_;  // by key
};

}  // namespace fovea::papers
