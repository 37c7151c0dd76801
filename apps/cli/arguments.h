// The words of a command line before the options are parsed: flags that stand before the command, other names of
// commands, and the flags of llama.cpp that its users type from habit, above all those of several letters behind one
// dash, which read otherwise as a short flag and its value (-ngl 0 as -n with "gl").
#pragma once

#include <string>
#include <vector>

#include "apps/cli/command.h"

namespace fovea::cli {

struct Arguments {
  std::string command;                // empty: none was named
  std::vector<std::string> words;     // the command first, then what it is to parse
  std::vector<std::string> warnings;  // of flags that were taken and do nothing
};

// Finds the command, moves flags before it behind it, resolves aliases ("ls", "help run"). kUsage for a flag before
// the command that is not for every command.
Result<Arguments> find_command(const std::vector<std::string>& args);

// Replaces the flags of llama.cpp that the command has not itself: by the same thing here, by nothing where it is
// what happens anyway, by a warning where it has no effect, by kUsage where the answer would be another one. A word
// of several letters behind one dash that is neither such a flag, a cluster of flags (-qv), nor a number behind its
// flag (-n64) is kUsage.
Status adopt_foreign_flags(const CommandLine& sub, Arguments& arguments);

}  // namespace fovea::cli
