// fovea profile --measure moa: a plan of spans for the attention method moa, kept in the model's head profile.
#pragma once

#include <string>

#include "apps/cli/model_session.h"
#include "fovea/probe/measures/moa_plan.h"

namespace fovea::cli {

// `output`: the profile with the plan goes there too, of a shuffled one there alone; empty: nowhere else.
Status profile_moa(const ModelFlags& flags, probe::MoaOptions options, const std::string& output, const Common& common);

}  // namespace fovea::cli
