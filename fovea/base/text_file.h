// The one way in which the program reads a text: what is no text is named and refused, what is not UTF-8 is said (as a
// warning in the log) and decoded where its encoding is certain.
//
// A byte order mark decides (UTF-8, UTF-16, UTF-32) and goes. Other bytes that are not UTF-8 are tried as Windows-1252,
// of which Latin-1 is a part, and taken for it if they make words. Where they do not, a few bytes are damage and become
// U+FFFD, and many are an encoding that is not certain: refused, with the way to convert it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fovea/base/result.h"

namespace fovea {

struct TextRules {
  uint64_t max_bytes = uint64_t{1} << 31;
  // For who looks at bytes: only known formats are refused, and bytes of no certain encoding stay as they are.
  bool keep_bytes = false;
};

// "-" is standard input. kData: no text; kLimit: over the maximum. The text is UTF-8 (but see keep_bytes); line ends
// stay.
Result<std::string> read_text_file(const std::string& path, const TextRules& rules = {});
// The same of bytes that came another way; `name` starts every message.
Result<std::string> to_text(std::string bytes, const std::string& name, const TextRules& rules = {});
// An argument of the command line: never refused.
std::string argument_text(std::string bytes, const std::string& name);

// kData with what it is, if these first bytes are of a known format that is no text.
Status refuse_known_kinds(std::string_view first_bytes, const std::string& name);
// UTF-16 or UTF-32 as their byte order mark says; nothing without one, or if the bytes are not valid in it.
std::optional<std::string> decode_marked(std::string_view bytes);
// Windows-1252 if that is what the bytes are beyond reasonable doubt.
std::optional<std::string> decode_windows_1252(std::string_view bytes);

}  // namespace fovea
