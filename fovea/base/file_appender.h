// A file that grows line by line while a program runs, so that others can look on: a log. What was written stays
// whatever becomes of the program; the last line may then be a part.
#pragma once

#include <string>
#include <string_view>

#include "fovea/base/result.h"

namespace fovea {

class FileAppender {
 public:
  // Behind what is there. kUsage for what is no regular file; errors as FileWriter's.
  static Result<FileAppender> open(const std::string& path);
  FileAppender(FileAppender&& other) noexcept;
  FileAppender& operator=(FileAppender&&) = delete;
  ~FileAppender();
  Status write(std::string_view text);

 private:
  FileAppender(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_;
};

}  // namespace fovea
