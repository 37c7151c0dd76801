// Rigs: small models that are trained once, here, for papers and tests. Each is a config and what it must reach before
// anybody builds on it; its folder lies in the model store under rigs/, by a hash of the config and of the program.
//
//   FOVEA_RIG(tiny_copy, "tiny-copy", "copies", 0.5, 0.1, R"({"model": ...})");
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/registry.h"
#include "fovea/base/result.h"
#include "fovea/train/loop.h"

namespace fovea::train {

struct Rig {
  std::string_view summary;
  double minutes;           // that it takes on two cores, at most
  double required;          // the loss on held-out data that it must reach
  std::string_view config;  // as docs/train.md says, with "eval" and without "out"
};
std::map<std::string, Rig, std::less<>>& rigs();

struct MadeRig {
  std::string path;  // the model's folder
  double required = 0, reached = 0;
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
