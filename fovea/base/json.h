// The one way in which the program reads JSON: strict, without exceptions, with caps, and with the line and the column
// of what is wrong.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "fovea/base/result.h"

namespace fovea {

constexpr int kMaxJsonDepth = 64;

// kData, as "NAME, line 3, column 7: not JSON: ...": what is not JSON, a number that no double holds, a key that an
// object has twice (one of the two would silently win). kLimit: deeper than kMaxJsonDepth.
// `name` starts every message; quote() makes one of a path.
Result<nlohmann::ordered_json> parse_json(std::string_view text, const std::string& name);

// A file; "-" is standard input. Also in UTF-16 if a byte order mark says so.
Result<nlohmann::ordered_json> read_json(const std::string& path, uint64_t max_bytes);

// "line 3, column 7" of a byte; columns count characters.
std::string place_in(std::string_view text, size_t byte);

}  // namespace fovea
