// Rigs: small models that are trained once, here, for papers and tests. Each is a config and what it must reach before
// anybody builds on it; its folder lies in the model store under rigs/, by a hash of the config and of the program.
//
//   FOVEA_RIG(tiny_copy, "tiny-copy", "copies", 0.5, 0.1, R"({"model": ...})");
//
// A net may begin from another rig, which is made first: "init": {"rig": "scene-clip", "tensors": ["vision.*"]}.
// Where a loss does not say what a paper needs, a rig measures its model too: FOVEA_RIG(..., R"(...)", measure,
// {{"retrieval", 0.9}}).
#pragma once

#include <atomic>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/registry.h"
#include "fovea/base/result.h"
#include "fovea/train/loop.h"

namespace fovea::train {

// What a rig measures on its model's folder, by name: more is better.
using Measures = std::map<std::string, double, std::less<>>;
struct RigGate {
  std::string_view measure;
  double least;
};

struct Rig {
  std::string_view summary;
  double minutes;           // that it takes on two cores, at most
  double required;          // the loss on held-out data that it must reach
  std::string_view config;  // as docs/train.md says, with "eval" and without "out"
  Result<Measures> (*measure)(const std::string& folder, const std::atomic<bool>* cancel) = nullptr;
  std::vector<RigGate> gates = {};  // over what it measures
};
std::map<std::string, Rig, std::less<>>& rigs();

struct MadeRig {
  std::string path;  // the model's folder
  double required = 0, reached = 0;
  Measures measures = {};
  double minutes = 0;    // that it took
  bool trained = false;  // now, and not before
};
// Trains it where that has not been done, and goes on where it was broken off. `options`: program, cancel, on_step and
// tell count. kUsage: no such name, with the nearest; kFailed: it did not reach what it must, and its folder says so.
Result<MadeRig> make_rig(std::string_view name, const TrainOptions& options);

#define FOVEA_RIG(id, name, ...)         \
  [[maybe_unused]] const bool id##_rig = \
      ::fovea::add_once(::fovea::train::rigs(), "rigs", name, ::fovea::train::Rig{__VA_ARGS__})

}  // namespace fovea::train
