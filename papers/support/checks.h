// A reproduction: what a paper says, as named checks. Each belongs to a numbered line of the paper's card ("what a
// working implementation must show"), and every line has at least one. Papers register themselves:
//
//   FOVEA_REPRODUCTION(Paper{.slug = "retrieval-heads", ..., .checks = {{1, Kind::kExact, "...", "...", measure}}})
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::papers {

class Run;

enum class Kind {
  kExact,    // what the code must do; one that fails fails the run
  kShape,    // what the paper says of models; one that does not show is a finding
  kControl,  // what must not show; one that does fails the run
};
std::string_view name_of(Kind kind);

struct Outcome {
  bool passed = false;
  std::string measured;  // a phrase with its unit
  bool has_data = true;
};
// Nothing was there to be measured. A shape and a control are then neither shown nor failed, an exact check failed.
inline Outcome no_data(const std::string& why) { return {false, "no data: " + why, false}; }

struct Check {
  int item;  // of the card
  Kind kind;
  std::string name, expected;
  std::function<Result<Outcome>(Run&)> measure;
  bool in_fast = true;
};

// What `--set NAME=VALUE` changes: whole numbers joined by commas, each in min to max; where max < min one of `words`,
// or any text if there are none.
struct Setting {
  std::string name, full, fast, help;  // fast: the value under --fast
  int min = 0, max = -1;
  std::vector<std::string> words = {};
};

struct Paper {
  std::string slug, title = {}, source = {};  // "retrieval-heads"; source: "arXiv:2404.15574"
  int n_items = 0;                            // numbered lines of the card
  std::string model = {};  // the one that is taken unless another is named; empty: the paper needs none
  std::vector<Setting> settings = {};
  std::vector<Check> checks = {};  // in the order in which they run
};

const std::map<std::string, Paper>& papers();
bool register_paper(Paper paper);
// kUsage with the nearest names. Underscores are taken for dashes.
Result<const Paper*> find_paper(std::string_view slug);

#define FOVEA_REPRODUCTION(...) \
  [[maybe_unused]] static const bool g_registered = ::fovea::papers::register_paper(__VA_ARGS__);

}  // namespace fovea::papers
