// One run of a reproduction: what its checks work with, and what comes of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fovea/engine/session.h"
#include "papers/support/report.h"

namespace fovea::papers {

struct RunOptions {
  bool fast = false;
  int item = 0;  // of the card: its checks alone; 0: all
  uint64_t seed = 0;
  kernels::Numerics numerics = kernels::Numerics::kFast;
  std::map<std::string, std::string> settings = {};  // instead of the paper's own
  std::string model_name = {};                       // as commands name it
  std::string cache_dir = {};                        // of the cells; empty: nothing is kept
  bool again = false;                                // cells that were kept are measured anew
  const std::atomic<bool>* cancel = nullptr;
  std::function<void(const std::string& what, int64_t done, int64_t total)> progress = {};
  std::function<void(const std::string& line)> say = {};  // what is worth a line: a check begins, a cell is measured
};

class Run {
 public:
  Run(const Paper& paper, std::shared_ptr<const engine::Model> model, const RunOptions& options, Report& report)
      : model_(std::move(model)), options_(options), report_(report), cells_(cell_dir(paper, options), options.again) {}

  const std::shared_ptr<const engine::Model>& model() const { return model_; }  // null if the paper needs none
  bool fast() const { return options_.fast; }
  uint64_t seed() const { return options_.seed; }
  kernels::Numerics numerics() const { return options_.numerics; }
  const std::atomic<bool>* cancel() const { return options_.cancel; }

  // Settings, as they are for this run. Preconditions: the paper has one of this name, of this kind.
  const std::string& word(std::string_view setting) const;
  std::vector<int> numbers(std::string_view setting) const;
  int number(std::string_view setting) const { return numbers(setting).at(0); }

  // Those of a setting that fit the model's context together with `n_answer` tokens; else the longest that does.
  std::vector<int> lengths(std::string_view setting, int n_answer) const;

  // A cell of the arms table: the values of `arm` in `setting`, measured once and kept. The key has, besides, paper,
  // model, seed, numerics, instruction set and build; the setting must name all else that the values depend on.
  Result<Json> cell(const std::string& arm, const Json& setting, const std::function<Result<Json>()>& measure);
  void plot(Plot plot) { report_.plots.push_back(std::move(plot)); }
  void progress(const std::string& what, int64_t done, int64_t total) const;

 private:
  static std::string cell_dir(const Paper& paper, const RunOptions& options);

  std::shared_ptr<const engine::Model> model_;
  const RunOptions& options_;
  Report& report_;
  CellStore cells_;
};

// Runs the checks in order. kUsage for a setting or an item that the paper has not; kCancelled and every error of a
// check end the run: what was measured before is kept.
Result<Report> reproduce(const Paper& paper, std::shared_ptr<const engine::Model> model, const RunOptions& options);

}  // namespace fovea::papers
