#include "fovea/base/file_appender.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"

namespace fovea {

Result<FileAppender> FileAppender::open(const std::string& path) {
  // Not blocking: a pipe would else wait for its reader before it can be refused.
  const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
  if (fd < 0) return file_error(path, "write", errno);
  FileAppender file(path, fd);
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
    return make_error(ErrorCode::kUsage, "{}: is no regular file, and a log cannot grow there", quote(path, 4096));
  return file;
}

FileAppender::FileAppender(FileAppender&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

FileAppender::~FileAppender() {
  if (fd_ >= 0) close(fd_);
}

Status FileAppender::write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd_, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return file_error(path_, "write", errno);
    text.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

}  // namespace fovea
