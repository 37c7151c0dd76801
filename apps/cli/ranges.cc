#include "apps/cli/ranges.h"

#include <fmt/format.h>

#include <limits>
#include <random>

#include "apps/cli/log_file.h"
#include "fovea/base/bytes.h"
#include "fovea/base/numbers.h"

namespace fovea::cli {

Test in_range(int64_t min, int64_t max) {
  return [min, max](std::string& input) {
    int64_t value = 0;
    if (parse_number(input, value) && value >= min && value <= max) {
      input = fmt::format("{}", value);  // "010" is ten to whoever reads it next
      return std::string();
    }
    return fmt::format("{} is not a whole number in {} to {}", quote(input, 40), min, max);
  };
}

Test in_range(double min, double max) {
  return [min, max](std::string& input) {
    double value = 0;
    // NaN fails both comparisons.
    if (parse_number(input, value) && value >= min && value <= max) return std::string();
    return fmt::format("{} is not a number in {} to {}", quote(input, 40), min, max);
  };
}

Test size_in_bytes() {
  return [](std::string& input) {
    uint64_t value = 0;
    if (parse_size(input, value)) {
      input = fmt::format("{}", value);
      return std::string();
    }
    return fmt::format("{} is not a size in 0 to {} bytes, as in 4096, 500MB or 2GiB", quote(input, 40), kMaxSize);
  };
}

Option add_seed_option(CommandLine& sub, Seed& seed, const std::string& help) {
  const auto take = [&seed](const std::string& text) {
    seed.random = text == "-1";
    if (seed.random) {
      seed.value = std::random_device()();  // 32 bits: every JSON reader keeps them
    } else if (!parse_number(text, seed.value)) {
      return fmt::format("{} is neither -1 (a random seed) nor a whole number in 0 to {}", quote(text, 40),
                         std::numeric_limits<uint64_t>::max());
    }
    return std::string();
  };
  return sub.add_option_function("-s,--seed", take, help + "; -1: a random one, which is shown").show_default("0");
}

void show_seed(const Common& common, const Seed& seed) {
  if (seed.random && !common.quiet) tell("seed {}", seed.value);
  if (seed.random && common.quiet) write_log_file(LogLevel::kInfo, fmt::format("seed {}", seed.value));
}

}  // namespace fovea::cli
