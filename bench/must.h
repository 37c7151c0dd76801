// A benchmark ends with the sentence and the exit code of the first error.
#pragma once

#include <errno.h>  // program_invocation_short_name
#include <fmt/core.h>

#include <cstdio>
#include <cstdlib>
#include <type_traits>
#include <utility>

#include "fovea/base/result.h"

namespace fovea::bench {

template <typename T>
T must(Result<T> result) {
  if (!result) {
    fmt::print(stderr, "{}: {}\n", program_invocation_short_name, result.error().message);
    std::exit(exit_code(result.error().code));
  }
  if constexpr (!std::is_void_v<T>) return std::move(result).value();
}

}  // namespace fovea::bench
