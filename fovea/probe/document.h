// Texts that a user names, read so that lines and characters can be counted on.
#pragma once

#include <cstdint>
#include <string>

#include "fovea/base/result.h"

namespace fovea::probe {

struct Document {
  std::string name;  // as the user named it
  std::string text;
};

// No model here reads more than a fraction of this.
inline constexpr uint64_t kMaxDocumentBytes = uint64_t{16} << 20;

// "-" is stdin. Line ends become '\n', a byte order mark goes, bytes that are not UTF-8 become U+FFFD:
// line numbers stay those of the file. kData: nothing in it, or a binary file; kLimit: over the maximum.
Result<Document> read_document(const std::string& path);

}  // namespace fovea::probe
