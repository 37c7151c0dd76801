#include "apps/cli/inputs.h"

#include <fmt/format.h>

#include <filesystem>

#include "fovea/base/bytes.h"

namespace fovea::cli {

namespace fs = std::filesystem;

Status check_not_an_input(const std::string& out, const std::vector<std::string>& inputs) {
  std::error_code ignored;
  const fs::path written = fs::weakly_canonical(out, ignored);
  for (const std::string& input : inputs) {
    if (input.empty() || input == "-" || out == "-" || !fs::exists(input, ignored)) continue;
    const bool in_folder =
        fs::is_directory(input, ignored) && written.parent_path() == fs::weakly_canonical(input, ignored);
    if (in_folder || fs::equivalent(out, input, ignored))
      return make_error(ErrorCode::kUsage, "{}: is being read; name another file to write", quote(out, 4096));
  }
  return {};
}

}  // namespace fovea::cli
