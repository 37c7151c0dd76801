// What a file is, by its first bytes: for the sentence that refuses it as a text and says how to get at its text.
#pragma once

#include <string_view>

namespace fovea {

struct FileKind {
  std::string_view name;  // "a PDF"
  std::string_view help;  // "its text: pdftotext FILE -"; empty where there is none to get
};

constexpr size_t kFileKindBytes = 4096;  // that are enough to tell

// Null for what may be a plain text.
const FileKind* file_kind(std::string_view first_bytes);
// HTML is a text like any source, but its tags may not be what is meant.
bool is_html(std::string_view first_bytes);

}  // namespace fovea
