// What a reproduction found, and its two forms: a JSON document, and a page that needs no network.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "papers/support/cells.h"
#include "papers/support/checks.h"

namespace fovea::papers {

struct CheckResult {
  int item;
  std::string name;
  Kind kind;
  bool passed;
  std::string measured, expected, command;  // command: makes this check again
  bool has_data = true;
};
std::string_view verdict_of(const CheckResult& check);  // "passed", "FAILED", "shown", "not shown", "no data"

struct Skipped {  // a control without data
  int item;
  std::string name, why;
};

// A cell of the arms table: a way to run the model (an --attention) in a setting.
struct Cell {
  std::string arm;
  Json setting, values;  // flat objects; of the values only numbers and words are shown
  double seconds = 0;
  bool kept = false;
};

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;
};
struct Plot {
  std::string title, x, y;  // x, y: what the axes are
  std::vector<Series> series;
};

struct Report {
  std::string slug, title, source, model, model_sha256, build, command, numerics;
  bool fast = false;
  uint64_t seed = 0;
  std::vector<std::pair<std::string, std::string>> settings;
  std::vector<CheckResult> checks;
  std::vector<Skipped> skipped;
  std::vector<Cell> cells;
  std::vector<Plot> plots;
  std::vector<const CheckResult*> failed() const;  // exact ones and controls only
};

nlohmann::json machine_json();  // {"cpu", "cores", "isa"}
nlohmann::json to_json(const Report& report);
std::string to_html(const Report& report);  // page.cc

}  // namespace fovea::papers
