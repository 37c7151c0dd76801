// Checks of the caller's own mistakes (shapes, dtypes, indices): they throw, so that a
// notebook or a server lives on. What a file or a user can get wrong returns a Result instead.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace fovea {

class CheckFailed : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

namespace internal {
[[noreturn]] void fail_check(const char* file, int line, const char* condition, const std::string& message);
}  // namespace internal

}  // namespace fovea

// FOVEA_CHECK(rows == n, "matmul: x has {} rows, wanted {}", rows, n)
#define FOVEA_CHECK(condition, ...)                                                              \
  do {                                                                                           \
    if (!(condition)) [[unlikely]]                                                               \
      ::fovea::internal::fail_check(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
  } while (false)

// Debug builds only; for hot loops.
#ifdef NDEBUG
#define FOVEA_DCHECK(condition) \
  do {                          \
    (void)sizeof(!(condition)); \
  } while (false)
#else
#define FOVEA_DCHECK(condition)                                                          \
  do {                                                                                   \
    if (!(condition)) ::fovea::internal::fail_check(__FILE__, __LINE__, #condition, ""); \
  } while (false)
#endif
