// Whole-file reads and writes. A write is atomic: readers see the old file or the new one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "fovea/base/result.h"

struct stat;

namespace fovea {

Result<std::string> read_file(const std::string& path, uint64_t max_bytes = uint64_t{1} << 31);  // "-" = stdin
Status write_file_atomic(const std::string& path, std::string_view content);

// Tells a file from every other, and from itself after a change. The times are nanoseconds since 1970.
struct FileIdentity {
  uint64_t device = 0, inode = 0, bytes = 0;
  int64_t modified_ns = 0, changed_ns = 0;  // changed: of the entry; no program can set it
  bool operator==(const FileIdentity&) const = default;
};
Result<FileIdentity> identity_of(const std::string& path);
FileIdentity identity_of(const struct ::stat& info);

// Streams into a temporary file beside `path`; commit() syncs and renames it, the destructor
// removes it if commit() was never reached.
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::string& path, unsigned mode = 0644);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();
  Status write(std::span<const std::byte> bytes);
  // Without `durable` a power cut may leave a damaged file: for what carries a checksum and can be made again.
  Status commit(bool durable = true);

 private:
  AtomicFile(std::string path, std::string temp, int fd);
  std::string path_, temp_;
  int fd_ = -1;
};

// SHA-256 piece by piece; digest() or hex() (lower case) ends it.
class Sha256 {
 public:
  using Digest = std::array<std::byte, 32>;
  Sha256();
  ~Sha256();
  void add(std::span<const std::byte> bytes);
  Digest digest();
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};
Result<std::string> sha256_of_file(const std::string& path);  // lower-case hex
std::string sha256_of(std::span<const std::byte> bytes);

}  // namespace fovea
