// A read-only memory-mapped file that survives being truncated or replaced underneath: a page
// that can no longer be read shows zeros and marks the mapping damaged, instead of SIGBUS death.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "fovea/base/file.h"
#include "fovea/base/result.h"

namespace fovea {

class MappedFile {
 public:
  // Errors: kNotFound, kPermission, kIo; kData for what is not a regular file (never blocks on a
  // FIFO or device). An empty file maps to an empty span.
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  const FileIdentity& identity() const { return identity_; }  // when it was opened
  // True once a read has hit a page that the file no longer backs. Check after each step that
  // read from the mapping; what was computed since the last check is not to be trusted.
  bool damaged() const;
  Status check_intact() const;  // kIo, naming the path, if damaged()
  // Drops the resident pages of a part and those near it. All can be read again.
  void release(std::span<const std::byte> part) const;

 private:
  MappedFile() = default;
  std::string path_;
  FileIdentity identity_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  int slot_ = -1;
};

}  // namespace fovea
