// fovea profile --run RUN: how the heads of a model formed while it was trained.
#pragma once

#include <cstdint>
#include <string>

#include "apps/cli/command.h"

namespace fovea::cli {

// Measures the models that `keep_every` left of a run. `run`: its folder, or the name of a rig, which is trained first
// where that has not been done. `text`: a file for the measures of text, empty: the first of this machine's licences.
// `output`: a page with plots, empty: none.
Status profile_run(const std::string& run, const std::string& text, uint64_t seed, const std::string& output,
                   const Common& common);

}  // namespace fovea::cli
