// Whole-file reads, what tells one file from another, and SHA-256. Writing: file_writer.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "fovea/base/file_writer.h"
#include "fovea/base/result.h"

struct stat;

namespace fovea {

// "-" is standard input. Ctrl+C ends a wait for a FIFO or for standard input with kCancelled.
Result<std::string> read_file(const std::string& path, uint64_t max_bytes = uint64_t{1} << 31);
// Hands every piece that was read to `take` until the end, or until `take` fails.
Status read_chunks(const std::string& path, const std::function<Status(std::string_view chunk)>& take);
// "PATH: cannot DOING: ..." with the code that an errno stands for.
Error file_error(const std::string& path, const char* doing, int code);

// Tells a file from every other, and from itself after a change. The times are nanoseconds since 1970.
struct FileIdentity {
  uint64_t device = 0, inode = 0, bytes = 0;
  int64_t modified_ns = 0, changed_ns = 0;  // changed: of the entry; no program can set it
  bool operator==(const FileIdentity&) const = default;
};
Result<FileIdentity> identity_of(const std::string& path);
FileIdentity identity_of(const struct ::stat& info);

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
