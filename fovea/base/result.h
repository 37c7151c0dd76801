// Errors as values: Result<T> is a T or an Error, shaped like std::expected.
// Use it for everything a correct program can meet (a file, a prompt, a knob, a request).
#pragma once

#include <fmt/core.h>

#include <string>
#include <utility>
#include <variant>

namespace fovea {

// What kind of failure; each maps to one exit code of the CLI (see exit_code).
enum class ErrorCode {
  kFailed,       // 1   the run failed
  kUsage,        // 2   a wrong argument, knob or name
  kData,         // 65  a file's content is invalid
  kLimit,        // 65  valid, but over a cap
  kUnsupported,  // 65  valid, but not something Fovea runs
  kNotFound,     // 66
  kUnavailable,  // 69  a needed program or service is missing
  kInternal,     // 70
  kOutOfMemory,  // 71
  kIo,           // 74
  kPermission,   // 77
  kCancelled,    // 130
  kClosedPipe,   // 0   whoever read the answer went away: nothing is left to say
};

int exit_code(ErrorCode code);
const char* name_of(ErrorCode code);  // "data", "limit", ...

struct Error {
  ErrorCode code = ErrorCode::kFailed;
  std::string message;  // one sentence for the user, naming file, key, offset or knob
  std::string where;    // optional: the place alone ("tensor blk.0.attn_q.weight", "offset 24")
};

template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit as std::expected
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }
  // Precondition: has_value(); otherwise std::bad_variant_access is thrown.
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const { return std::get<1>(state_); }
  Error& error() { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT
  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }
  const Error& error() const { return std::get<1>(state_); }
  Error& error() { return std::get<1>(state_); }

 private:
  std::variant<std::monostate, Error> state_;
};
using Status = Result<void>;

// make_error(ErrorCode::kData, "{}: the file is {} bytes short", path, n)
template <typename... Args>
Error make_error(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return Error{code, fmt::format(format, std::forward<Args>(args)...), {}};
}

}  // namespace fovea

#define FOVEA_CONCAT_INNER(a, b) a##b
#define FOVEA_CONCAT(a, b) FOVEA_CONCAT_INNER(a, b)

// Returns the error of `expr` from this function, if it has one.
#define FOVEA_RETURN_IF_ERROR(expr)                                                        \
  do {                                                                                     \
    if (auto fovea_status = (expr); !fovea_status) return std::move(fovea_status.error()); \
  } while (false)

// FOVEA_ASSIGN_OR_RETURN(auto x, f()): x is f's value, or this function returns f's error.
#define FOVEA_ASSIGN_OR_RETURN(lhs, expr) FOVEA_ASSIGN_OR_RETURN_INNER(FOVEA_CONCAT(fovea_result_, __LINE__), lhs, expr)
#define FOVEA_ASSIGN_OR_RETURN_INNER(tmp, lhs, expr) \
  auto tmp = (expr);                                 \
  if (!tmp) return std::move(tmp.error());           \
  lhs = std::move(tmp).value()
