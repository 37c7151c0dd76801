#include "fovea/engine/document.h"

#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/text_file.h"

namespace fovea::engine {

Result<Document> read_document(const std::string& path) {
  const std::string name = path == "-" ? "standard input" : quote(path, 4096);
  FOVEA_ASSIGN_OR_RETURN(const std::string bytes, read_text_file(path, {.max_bytes = kMaxDocumentBytes}));
  std::string text;
  text.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size(); ++i) {
    const char c = bytes[i];
    if (c != '\r') {
      text += c;
    } else if (i + 1 == bytes.size() || bytes[i + 1] != '\n') {
      text += '\n';  // old line ends: a lone carriage return
    }
  }
  if (text.find_first_not_of(" \t\n\v\f") == std::string::npos) {
    return make_error(ErrorCode::kData, "{}: there is no text in it", name);
  }
  return Document{path, std::move(text)};
}

}  // namespace fovea::engine
