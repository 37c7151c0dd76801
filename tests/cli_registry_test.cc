#include <gtest/gtest.h>

#include "apps/cli/command.h"

namespace fovea::cli {
namespace cli_registry_test {

TEST(CommandRegistry, RefusesADoubleName) {
  const Command command{"no-such-command", "", "", nullptr};
  const CommandRegistrar first(command);
  EXPECT_THROW(const CommandRegistrar second(command), CheckFailed);
  EXPECT_EQ(command_registry().count("no-such-command"), 1u);
}

}  // namespace cli_registry_test
}  // namespace fovea::cli
