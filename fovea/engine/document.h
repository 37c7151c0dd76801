// Texts that a user names, read so that lines and characters can be counted on.
#pragma once

#include <cstdint>
#include <string>

#include "fovea/base/result.h"

namespace fovea::engine {

struct Document {
  std::string name;  // as the user named it
  std::string text;
};

// No model here reads more than a fraction of this.
inline constexpr uint64_t kMaxDocumentBytes = uint64_t{16} << 20;

// "-" is stdin. Read by read_text_file(), and line ends become '\n': line numbers stay those of the file.
// kData: nothing in it, or no text; kLimit: over the maximum.
Result<Document> read_document(const std::string& path);

}  // namespace fovea::engine
