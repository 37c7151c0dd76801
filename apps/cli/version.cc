// fovea version
#include <nlohmann/json.hpp>

#include "apps/cli/command.h"

namespace fovea::cli {
namespace version_command {

std::function<Status()> setup(CommandLine&, Common& common) {
  return [&common]() -> Status {
    if (common.json) return print_json({{"name", "fovea"}, {"version", FOVEA_VERSION}});
    return print("fovea " FOVEA_VERSION "\n");
  };
}

FOVEA_COMMAND("version", "the version of this program", "fovea version", setup)

}  // namespace version_command
}  // namespace fovea::cli
