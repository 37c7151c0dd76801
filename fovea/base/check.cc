#include "fovea/base/check.h"

namespace fovea::internal {

void fail_check(const char* file, int line, const char* condition, const std::string& message) {
  throw CheckFailed(message.empty() ? fmt::format("{}:{}: check failed: {}", file, line, condition)
                                    : fmt::format("{} [{}:{}: {}]", message, file, line, condition));
}

}  // namespace fovea::internal
