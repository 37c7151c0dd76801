#include "fovea/base/file_writer.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <random>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/file_use.h"
#include "fovea/base/interrupt.h"
#include "fovea/base/numbers.h"
#include "fovea/base/temporary_files.h"

namespace fovea {
namespace {

constexpr size_t kLongestName = 255;  // bytes that file systems allow
constexpr int kMostLinks = 40;        // as the kernel has it

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

std::string random_letters() {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::random_device random;
  std::string out(6, 'a');
  for (char& c : out) c = kLetters[random() % kLetters.size()];
  return out;
}

// "x.npy.part-k3v9ab"; of a name that would become too long, only its beginning.
std::string temporary_name(const std::string& target) {
  const std::string tail = ".part-" + random_letters();
  const size_t name = target.rfind('/') == std::string::npos ? 0 : target.rfind('/') + 1;
  return target.substr(0, name + std::min(target.size() - name, kLongestName - tail.size())) + tail;
}

// Temporary files of `target` whose writer was killed: nobody holds their lock. One that is new may not have it yet.
void remove_left_behind(const std::string& target) {
  namespace fs = std::filesystem;
  constexpr time_t kNew = 60;  // seconds
  const std::string sample = temporary_name(target);
  const std::string begin =
      fs::path(sample).filename().string().substr(0, fs::path(sample).filename().string().size() - 6);
  std::error_code error;
  std::vector<std::string> left;
  for (fs::directory_iterator it(folder_of(target), error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.size() == begin.size() + 6 && name.starts_with(begin)) left.push_back(it->path().string());
  }
  for (const std::string& path : left) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    struct stat info {};
    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == geteuid() &&
        info.st_mtime + kNew < std::time(nullptr) && flock(fd, LOCK_EX | LOCK_NB) == 0)
      unlink(path.c_str());
    if (fd >= 0) close(fd);
  }
}

// Put there by somebody else, where anybody may put things: what we write would go where they want it. The kernel
// refuses to follow such links and to open such pipes for the same reason, but only if it is told to.
bool may_be_a_trap(const std::string& path, const struct stat& info) {
  struct stat folder {};
  if (stat(folder_of(path).c_str(), &folder) != 0) return false;
  const bool open_to_all = (folder.st_mode & S_ISVTX) && (folder.st_mode & S_IWOTH);
  return open_to_all && info.st_uid != geteuid() && info.st_uid != folder.st_uid;
}

bool in_proc(const std::string& path) {
  struct statfs info {};
  return statfs(folder_of(path).c_str(), &info) == 0 && info.f_type == PROC_SUPER_MAGIC;
}

// Where a link points, seen from where the link's own path is seen.
Result<std::string> link_target(const std::string& name, const std::string& link) {
  char buffer[4096];
  const ssize_t n = readlink(link.c_str(), buffer, sizeof(buffer));
  if (n < 0) return file_error(name, "write", errno);
  const std::string to(buffer, static_cast<size_t>(n));
  if (to.starts_with("/") || link.find('/') == std::string::npos) return to;
  return link.substr(0, link.rfind('/') + 1) + to;
}

Error no_file(const std::string& name, std::string_view what) {
  return make_error(ErrorCode::kUsage, "{}: is {}, and no file can be written there", quote(name, 4096), what);
}

// 0, or the errno that ended it; ECANCELED after Ctrl+C while it waited.
int write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(n));
    } else if (errno == EINTR) {
      if (interrupted()) return ECANCELED;
    } else if (errno == EAGAIN) {  // another program that shares the pipe made it so
      pollfd ready{fd, POLLOUT, 0};
      if (poll(&ready, 1, -1) < 0 && errno == EINTR && interrupted()) return ECANCELED;
    } else {
      return errno;
    }
  }
  return 0;
}

}  // namespace

Result<FileWriter> FileWriter::create(const std::string& path, WriteTo to, unsigned mode) {
  if (path.empty()) return make_error(ErrorCode::kUsage, "the name of the file is empty");
  if (path == "-" && to == WriteTo::kAnything) return FileWriter(Kind::kStdout, "standard output", STDOUT_FILENO);
  std::string at = path;
  for (int links = 0; links <= kMostLinks; ++links) {
    struct stat info {};
    if (lstat(at.c_str(), &info) != 0) {
      if (errno != ENOENT) return file_error(path, "write", errno);
      struct stat folder {};
      const std::string parent = folder_of(at);
      if (at.ends_with("/") || stat(parent.c_str(), &folder) != 0) {
        return make_error(ErrorCode::kNotFound, "{}: there is no folder {}", quote(path, 4096),
                          quote(at.ends_with("/") ? at : parent, 4096));
      }
      return beside(path, at, nullptr, mode);
    }
    if (may_be_a_trap(at, info)) {
      return make_error(ErrorCode::kPermission,
                        "{}: belongs to another user, in a folder where everyone may put files; name another file",
                        quote(path, 4096));
    }
    if (S_ISLNK(info.st_mode) && to != WriteTo::kOwnFile) {
      // The links of /proc/self/fd are open files, not names.
      if (in_proc(at)) return to == WriteTo::kAnything ? through(path) : Result<FileWriter>(no_file(path, "a device"));
      FOVEA_ASSIGN_OR_RETURN(at, link_target(path, at));
      continue;
    }
    if (S_ISDIR(info.st_mode)) return no_file(path, "a folder");
    if (S_ISREG(info.st_mode) || S_ISLNK(info.st_mode)) {
      if (S_ISREG(info.st_mode) && faccessat(AT_FDCWD, at.c_str(), W_OK, AT_EACCESS) != 0)
        return file_error(path, "write", errno);
      FOVEA_ASSIGN_OR_RETURN(
          FileWriter writer,
          beside(path, at, S_ISREG(info.st_mode) && to != WriteTo::kOwnFile ? &info : nullptr, mode));
      if (to == WriteTo::kAnything) FOVEA_RETURN_IF_ERROR(begin_replacing(writer.temp_, identity_of(info), path));
      return writer;
    }
    if (S_ISSOCK(info.st_mode)) return no_file(path, "a socket");
    if (to != WriteTo::kAnything) return no_file(path, S_ISFIFO(info.st_mode) ? "a pipe" : "a device");
    return through(path);
  }
  return file_error(path, "write", ELOOP);
}

Result<FileWriter> FileWriter::beside(const std::string& name, const std::string& target, const struct ::stat* old,
                                      unsigned mode) {
  remove_left_behind(target);
  std::string temp;
  int fd = -1;
  do {  // like mkstemp, but on the list of temporary files before it is there
    temp = temporary_name(target);
    add_temporary_file(temp);
    fd = ::open(temp.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, old ? 0600 : mode);
    const int code = errno;
    if (fd < 0) forget_temporary_file(temp);
    errno = code;
  } while (fd < 0 && errno == EEXIST);
  if (fd < 0) return file_error(name, "write", errno);
  (void)flock(fd, LOCK_EX | LOCK_NB);
  FileWriter writer(Kind::kReplace, name, fd);
  writer.target_ = target;
  writer.temp_ = std::move(temp);
  if (old) {  // who may read the old file may read the new one, and nobody else
    unsigned kept = old->st_mode & 0777;
    struct stat info {};
    if (fstat(fd, &info) == 0 && (info.st_uid != old->st_uid || info.st_gid != old->st_gid) &&
        fchown(fd, old->st_uid, old->st_gid) != 0)
      kept &= ~070U;
    (void)fchmod(fd, kept);
  }
  return writer;
}

Result<FileWriter> FileWriter::through(const std::string& path) {
  int fd = -1;
  do {  // a FIFO: until somebody reads it
    fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 && errno == EINTR && interrupted()) return interrupted_error();
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return file_error(path, "write", errno);
  return FileWriter(Kind::kThrough, path, fd);
}

FileWriter::FileWriter(FileWriter&& other) noexcept
    : kind_(other.kind_),
      name_(std::move(other.name_)),
      target_(std::move(other.target_)),
      temp_(std::move(other.temp_)),
      fd_(std::exchange(other.fd_, -1)) {}

FileWriter::~FileWriter() {
  if (fd_ >= 0 && kind_ != Kind::kStdout) close(fd_);
  if (fd_ < 0 || kind_ != Kind::kReplace) return;
  end_replacing(temp_);
  unlink(temp_.c_str());
  forget_temporary_file(temp_);
}

Status FileWriter::write(std::span<const std::byte> bytes) {
  if (kind_ == Kind::kStdout) return write_stdout({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  const int code = write_all(fd_, bytes);
  if (code == ECANCELED) return interrupted_error();
  return code == 0 ? Status() : Status(file_error(name_, "write", code));
}

Status FileWriter::commit(bool durable) {
  if (kind_ == Kind::kStdout) return {};
  if (kind_ == Kind::kReplace && durable && fsync(fd_) != 0) return file_error(name_, "write", errno);
  if (kind_ == Kind::kReplace && std::rename(temp_.c_str(), target_.c_str()) != 0)
    return file_error(name_, "write", errno);
  if (kind_ == Kind::kReplace) end_replacing(temp_), forget_temporary_file(temp_);
  // Some file systems say only here that the disk is full.
  if (close(std::exchange(fd_, -1)) != 0 && errno != EINTR) return file_error(name_, "write", errno);
  if (kind_ != Kind::kReplace || !durable) return {};
  const int folder = ::open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return {};
  (void)fsync(folder);  // the new name, too, should outlast a power cut
  close(folder);
  return {};
}

Status FileWriter::check_space(uint64_t bytes) const {
  struct statvfs info {};
  if (kind_ != Kind::kReplace || fstatvfs(fd_, &info) != 0) return {};
  const uint64_t free = uint64_t{info.f_bavail} * info.f_frsize;
  if (free >= bytes) return {};
  return make_error(ErrorCode::kIo, "{}: {} are to be written and {} are free there", quote(name_, 4096),
                    size_text(static_cast<double>(bytes)), size_text(static_cast<double>(free)));
}

Status write_file_atomic(const std::string& path, std::string_view content, WriteTo to) {
  FOVEA_ASSIGN_OR_RETURN(FileWriter file, FileWriter::create(path, to));
  FOVEA_RETURN_IF_ERROR(file.write(content));
  return file.commit();
}

Status write_stdout(std::string_view text) {
  const int code = write_all(STDOUT_FILENO, std::as_bytes(std::span(text.data(), text.size())));
  if (code == 0) return {};
  if (code == ECANCELED) return interrupted_error();
  if (code == EPIPE) return Error{ErrorCode::kClosedPipe, "the reader of standard output went away", {}};
  return make_error(ErrorCode::kIo, "writing to standard output: {}", std::strerror(code));
}

}  // namespace fovea
