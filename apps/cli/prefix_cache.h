// --prefix-cache and --prefix-cache-size, for commands that may find their text read already.
#pragma once

#include <cstdint>
#include <string>

#include "apps/cli/command.h"
#include "fovea/engine/prefix_store.h"

namespace fovea::cli {

struct PrefixFlags {
  std::string dir;  // empty: the default folder; "off"
  uint64_t max_bytes = engine::PrefixStoreOptions().max_bytes;
};
void add_prefix_flags(CommandLine& sub, PrefixFlags& flags);
engine::PrefixStore open_prefix_store(const PrefixFlags& flags);

}  // namespace fovea::cli
