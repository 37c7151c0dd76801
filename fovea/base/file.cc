#include "fovea/base/file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "fovea/base/bytes.h"
#include "fovea/base/interrupt.h"

namespace fovea {
namespace {

struct Descriptor {
  int fd;
  bool owned;
  ~Descriptor() {
    if (owned && fd >= 0) close(fd);
  }
};

}  // namespace

Error file_error(const std::string& path, const char* doing, int code) {
  const ErrorCode kind = code == ENOENT || code == ENOTDIR || code == ELOOP || code == ENAMETOOLONG
                             ? ErrorCode::kNotFound
                         : code == EACCES || code == EPERM || code == EROFS ? ErrorCode::kPermission
                                                                            : ErrorCode::kIo;
  return make_error(kind, "{}: cannot {}: {}", quote(path, 4096), doing, std::strerror(code));
}

Status read_chunks(const std::string& path, const std::function<Status(std::string_view chunk)>& take) {
  Descriptor file{STDIN_FILENO, path != "-"};
  const std::string name = file.owned ? path : "standard input";
  while (file.owned) {  // a FIFO: until somebody writes to it
    file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (file.fd >= 0 || errno != EINTR) break;
    if (interrupted()) return interrupted_error();
  }
  if (file.fd < 0) return file_error(name, "open", errno);
  struct stat info {};
  if (fstat(file.fd, &info) == 0 && S_ISDIR(info.st_mode)) return file_error(name, "read", EISDIR);
  std::vector<char> buffer(1 << 18);
  for (;;) {
    if (interrupted()) return interrupted_error();
    const ssize_t n = ::read(file.fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {  // another program that shares the pipe made it so
      pollfd ready{file.fd, POLLIN, 0};
      (void)poll(&ready, 1, -1);
      continue;
    }
    if (n < 0) return file_error(name, "read", errno);
    if (n == 0) return {};
    FOVEA_RETURN_IF_ERROR(take(std::string_view(buffer.data(), static_cast<size_t>(n))));
  }
}

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
      return make_error(ErrorCode::kLimit, "{}: longer than the {} bytes allowed", quote(path, 4096), max_bytes);
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
