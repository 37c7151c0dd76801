#include <gtest/gtest.h>

#include "apps/cli/command.h"

namespace fovea::cli {
namespace {

TEST(CommandRegistry, RefusesADoubleName) {
  const Command command{"no-such-command", "", "", nullptr};
  const CommandRegistrar first(command);
  EXPECT_THROW(const CommandRegistrar second(command), CheckFailed);
  EXPECT_EQ(command_registry().count("no-such-command"), 1u);
}

}  // namespace
}  // namespace fovea::cli
