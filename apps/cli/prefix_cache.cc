#include "apps/cli/prefix_cache.h"

#include "apps/cli/ranges.h"
#include "fovea/base/log.h"

namespace fovea::cli {

void add_prefix_flags(CommandLine& sub, PrefixFlags& flags) {
  sub.add_option("--prefix-cache", flags.dir,
                 "a folder that keeps what was read for the next time, or off; default: fovea/prefix in "
                 "$XDG_CACHE_HOME or ~/.cache");
  sub.add_option("--prefix-cache-size", flags.max_bytes,
                 "bytes that it may take (2GB, 500MB); the longest unused files go first")
      .transform(size_in_bytes())
      .show_default();
}

engine::PrefixStore open_prefix_store(const PrefixFlags& flags) {
  engine::PrefixStoreOptions options;
  options.max_bytes = flags.max_bytes;
  if (flags.dir != "off") options.dir = flags.dir.empty() ? engine::default_prefix_dir() : flags.dir;
  if (flags.dir.empty() && options.dir.empty())
    log_info("prefix cache: off, because neither XDG_CACHE_HOME nor HOME is set in the environment");
  return engine::PrefixStore(options);
}

}  // namespace fovea::cli
