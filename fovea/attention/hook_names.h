// The names of hooks: the TransformerLens legacy spelling ("blocks.3.attn.hook_q"), frozen. Other
// tools' names for the same values are understood; docs/hooks.md is the map for users.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fovea/attention/hook_map.h"
#include "fovea/base/result.h"

namespace fovea::attention {

bool matches_glob(std::string_view pattern, std::string_view name);  // * any run, ? one character

// Another tool's name for a hook in Fovea's spelling; any other text comes back as it is. `n_blocks`: see HookMap.
std::string canonical_hook(std::string_view name, int n_blocks);

// Every hook of the model that a name, a glob or an alias means, in the order in which they fire. kUsage if there
// is none: with the reason where the name belongs to another kind of model, else the nearest names.
Result<std::vector<HookPoint>> find_hooks(std::string_view pattern, const HookMap& model);

}  // namespace fovea::attention
