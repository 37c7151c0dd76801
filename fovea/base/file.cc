#include "fovea/base/file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "fovea/base/bytes.h"
#include "fovea/base/temporary_files.h"

namespace fovea {
namespace {

Error file_error(const std::string& path, const char* doing, int code) {
  const ErrorCode kind = code == ENOENT || code == ENOTDIR ? ErrorCode::kNotFound
                         : code == EACCES || code == EPERM ? ErrorCode::kPermission
                                                           : ErrorCode::kIo;
  return make_error(kind, "{}: cannot {}: {}", quoted(path, 4096), doing, std::strerror(code));
}

std::string random_letters() {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::random_device random;
  std::string out(6, 'a');
  for (char& c : out) c = kLetters[random() % kLetters.size()];
  return out;
}

struct Descriptor {
  int fd;
  bool owned;
  ~Descriptor() {
    if (owned && fd >= 0) close(fd);
  }
};

// Calls take(chunk) until the end of the file.
template <typename Take>
Status read_chunks(const std::string& path, Take take) {
  const bool is_stdin = path == "-";
  const Descriptor file{is_stdin ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC), !is_stdin};
  if (file.fd < 0) return file_error(path, "open", errno);
  struct stat info {};
  if (fstat(file.fd, &info) == 0 && S_ISDIR(info.st_mode)) return file_error(path, "read", EISDIR);
  std::vector<char> buffer(1 << 18);
  for (;;) {
    const ssize_t n = ::read(file.fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return file_error(path, "read", errno);
    if (n == 0) return {};
    FOVEA_RETURN_IF_ERROR(take(std::string_view(buffer.data(), static_cast<size_t>(n))));
  }
}

}  // namespace

struct Sha256::State {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(), &EVP_MD_CTX_free};
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr);
}
Sha256::~Sha256() = default;

void Sha256::add(std::span<const std::byte> bytes) {
  EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size());
}

Sha256::Digest Sha256::digest() {
  Digest digest;
  unsigned int size = 0;
  EVP_DigestFinal_ex(state_->context.get(), reinterpret_cast<unsigned char*>(digest.data()), &size);
  return digest;
}

std::string Sha256::hex() {
  std::string text;
  for (const std::byte byte : digest()) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

Result<std::string> read_file(const std::string& path, uint64_t max_bytes) {
  std::string content;
  FOVEA_RETURN_IF_ERROR(read_chunks(path, [&](std::string_view chunk) -> Status {
    if (content.size() + chunk.size() > max_bytes) {
      return make_error(ErrorCode::kLimit, "{}: longer than the {} bytes allowed", quoted(path, 4096), max_bytes);
    }
    content += chunk;
    return {};
  }));
  return content;
}

FileIdentity identity_of(const struct ::stat& info) {
  const auto ns = [](const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; };
  return FileIdentity{info.st_dev, info.st_ino, static_cast<uint64_t>(info.st_size), ns(info.st_mtim),
                      ns(info.st_ctim)};
}

Result<FileIdentity> identity_of(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return file_error(path, "open", errno);
  return identity_of(info);
}

Status write_file_atomic(const std::string& path, std::string_view content) {
  FOVEA_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  FOVEA_RETURN_IF_ERROR(file.write({reinterpret_cast<const std::byte*>(content.data()), content.size()}));
  return file.commit();
}

AtomicFile::AtomicFile(std::string path, std::string temp, int fd)
    : path_(std::move(path)), temp_(std::move(temp)), fd_(fd) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)), temp_(std::move(other.temp_)), fd_(std::exchange(other.fd_, -1)) {}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temp_.c_str());
  forget_temporary_file(temp_);
}

Result<AtomicFile> AtomicFile::create(const std::string& path, unsigned mode) {
  std::string temp;
  int fd = -1;
  do {  // like mkstemp, but on the list of temporary files before it is there
    temp = path + ".part-" + random_letters();
    add_temporary_file(temp);
    fd = ::open(temp.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    const int code = errno;
    if (fd < 0) forget_temporary_file(temp);
    errno = code;
  } while (fd < 0 && errno == EEXIST);
  if (fd < 0) return file_error(path, "write", errno);
  fchmod(fd, mode);
  return AtomicFile(path, std::move(temp), fd);
}

Status AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return file_error(path_, "write", errno);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Status AtomicFile::commit(bool durable) {
  if (durable && fsync(fd_) != 0) return file_error(path_, "write", errno);
  if (std::rename(temp_.c_str(), path_.c_str()) != 0) return file_error(path_, "write", errno);
  forget_temporary_file(temp_);
  close(std::exchange(fd_, -1));
  return {};
}

Result<std::string> sha256_of_file(const std::string& path) {
  Sha256 hash;
  FOVEA_RETURN_IF_ERROR(read_chunks(path, [&](std::string_view chunk) -> Status {
    hash.add(std::as_bytes(std::span(chunk.data(), chunk.size())));
    return {};
  }));
  return hash.hex();
}

std::string sha256_of(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.add(bytes);
  return hash.hex();
}

}  // namespace fovea
