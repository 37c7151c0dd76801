// A file that one process at a time holds. It stays where it is: what is locked goes with the process, whatever ended
// it.
#pragma once

#include <string>

#include "fovea/base/result.h"

namespace fovea {

class FileLock {
 public:
  // Makes the file. kUnavailable with `busy` as its sentence while another holds it; kPermission, kIo.
  static Result<FileLock> take(const std::string& path, const std::string& busy);
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace fovea
