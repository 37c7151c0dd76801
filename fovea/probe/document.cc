#include "fovea/probe/document.h"

#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::probe {

Result<Document> read_document(const std::string& path) {
  const std::string name = path == "-" ? "standard input" : quoted(path, 4096);
  auto bytes = read_file(path, kMaxDocumentBytes);
  if (!bytes) return std::move(bytes.error());
  if (bytes->find('\0') != std::string::npos) {
    return make_error(ErrorCode::kData, "{}: a binary file (byte {} is 0); give a text in UTF-8", name,
                      bytes->find('\0'));
  }
  std::string text;
  text.reserve(bytes->size());
  for (size_t i = bytes->rfind("\xEF\xBB\xBF", 0) == 0 ? 3 : 0; i < bytes->size(); ++i) {
    const char c = (*bytes)[i];
    if (c != '\r') {
      text += c;
    } else if (i + 1 == bytes->size() || (*bytes)[i + 1] != '\n') {
      text += '\n';  // old line ends: a lone carriage return
    }
  }
  if (text.find_first_not_of(" \t\n\v\f") == std::string::npos) {
    return make_error(ErrorCode::kData, "{}: there is no text in it", name);
  }
  if (!tokenizers::is_utf8(text)) text = tokenizers::replace_invalid_utf8(text);
  return Document{path, std::move(text)};
}

}  // namespace fovea::probe
