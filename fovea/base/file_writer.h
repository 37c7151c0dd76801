// The one way in which the program writes a file.
//
// A regular or new file is written beside its place and renamed when it is complete, so that readers see the old file
// or the new one, also after a full disk or a signal. Behind a link it is the link's target that is replaced. What
// cannot be replaced (a device, a FIFO) is written through, and what cannot be written at all (a folder, a socket) is
// refused when the writer is made, before any work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "fovea/base/result.h"

struct stat;

namespace fovea {

enum class WriteTo {
  kAnything,  // what a user named; "-" is standard output
  kFile,      // a regular file, also behind links
  kOwnFile,   // in a store of ours: a link in its place is replaced, never followed
};

class FileWriter {
 public:
  // `mode`: of a file that was not there, less the umask. One that was there keeps its own.
  // kUsage: a folder or what is no file. kNotFound: no such folder. kPermission. Waits for the reader of a FIFO.
  static Result<FileWriter> create(const std::string& path, WriteTo to = WriteTo::kAnything, unsigned mode = 0666);
  FileWriter(FileWriter&& other) noexcept;
  FileWriter& operator=(FileWriter&&) = delete;
  ~FileWriter();  // without commit() no file was made or changed

  Status write(std::span<const std::byte> bytes);
  Status write(std::string_view text) { return write(std::as_bytes(std::span(text.data(), text.size()))); }
  // Without `durable` a power cut may leave a damaged file: for what carries a checksum and can be made again.
  Status commit(bool durable = true);

  void call(std::string name) { name_ = std::move(name); }  // in messages, where a user knows it by another
  bool to_stdout() const { return kind_ == Kind::kStdout; }
  // kIo with both numbers if a file of so many bytes does not fit the disk. What is not known shows when it is written.
  Status check_space(uint64_t bytes) const;

 private:
  enum class Kind { kReplace, kThrough, kStdout };
  FileWriter(Kind kind, std::string name, int fd) : kind_(kind), name_(std::move(name)), fd_(fd) {}
  static Result<FileWriter> beside(const std::string& name, const std::string& target, const struct ::stat* old,
                                   unsigned mode);
  static Result<FileWriter> through(const std::string& path);

  Kind kind_;
  std::string name_;           // as the user said it
  std::string target_, temp_;  // kReplace: behind all links, and where the bytes are for now
  int fd_ = -1;
};

// A whole file at once.
Status write_file_atomic(const std::string& path, std::string_view content, WriteTo to = WriteTo::kFile);
// kClosedPipe if its reader went away; else kIo.
Status write_stdout(std::string_view text);

}  // namespace fovea
