// The values that options take: each kind has its range, and a value outside is refused with it.
#pragma once

#include <cstdint>
#include <string>

#include "apps/cli/command.h"

namespace fovea::cli {

// For Option::transform() (not check(): the value is handed on in the one form that every reader takes alike).
Test in_range(int64_t min, int64_t max);  // "-n: 1.5 is not a whole number in 0 to 9"
Test in_range(double min, double max);    // refuses NaN
Test size_in_bytes();                     // "500MB", "2GiB"; the suffixes of parse_size

// -1 draws one, which `random` tells: it must then be shown, or nothing could be repeated.
struct Seed {
  uint64_t value = 0;
  bool random = false;
};
Option add_seed_option(CommandLine& sub, Seed& seed, const std::string& help);
// On stderr, if it was drawn.
void show_seed(const Common& common, const Seed& seed);

}  // namespace fovea::cli
