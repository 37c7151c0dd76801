#include "fovea/base/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "fovea/base/bytes.h"
#include "fovea/base/file_use.h"

namespace fovea {
namespace {

// What the signal handler may look at: atomics only.
struct MappedSlot {
  std::atomic<uintptr_t> begin{0}, end{0};
  std::atomic<bool> damaged{false};
};
constexpr int kSlots = 1024;
std::array<MappedSlot, kSlots> g_mapped;
struct sigaction g_previous;
std::mutex g_mapped_mutex;
uintptr_t g_page_size = 4096;

void on_sigbus(int signal, siginfo_t* info, void* context) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (MappedSlot& slot : g_mapped) {
    const uintptr_t begin = slot.begin.load(std::memory_order_acquire);
    if (begin == 0 || address < begin || address >= slot.end.load(std::memory_order_acquire)) continue;
    void* page = reinterpret_cast<void*>(address / g_page_size * g_page_size);
    if (mmap(page, g_page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) break;
    slot.damaged.store(true, std::memory_order_release);
    return;
  }
  if (g_previous.sa_flags & SA_SIGINFO) {
    g_previous.sa_sigaction(signal, info, context);
  } else if (g_previous.sa_handler != SIG_DFL && g_previous.sa_handler != SIG_IGN) {
    g_previous.sa_handler(signal);
  } else {
    ::signal(SIGBUS, SIG_DFL);  // not ours: the faulting instruction runs again and the default acts
  }
}

void install_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    g_page_size = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    struct sigaction action {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &g_previous);
  });
}

Error open_error(const std::string& path, int code) {
  const ErrorCode kind = code == ENOENT || code == ENOTDIR || code == ELOOP || code == ENAMETOOLONG
                             ? ErrorCode::kNotFound
                         : code == EACCES || code == EPERM ? ErrorCode::kPermission
                                                           : ErrorCode::kIo;
  return make_error(kind, "{}: {}", quote(path, 4096), std::strerror(code));
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return open_error(path, errno);
  struct stat info {};
  if (fstat(fd, &info) != 0) {
    const int code = errno;
    close(fd);
    return open_error(path, code);
  }
  if (!S_ISREG(info.st_mode)) {
    close(fd);
    return make_error(ErrorCode::kData, "{}: not a model: not a regular file", quote(path, 4096));
  }
  if (const Status free = begin_reading(identity_of(info), path); !free) {
    close(fd);
    return free.error();
  }
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = path;
  file->identity_ = identity_of(info);
  file->size_ = static_cast<size_t>(info.st_size);
  if (file->size_ > 0) {
    void* data = mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, fd, 0);
    const int code = errno;
    close(fd);
    if (data == MAP_FAILED) {
      file->size_ = 0;
      return open_error(path, code);
    }
    file->data_ = static_cast<const std::byte*>(data);
    install_handler();
    std::lock_guard lock(g_mapped_mutex);
    for (int i = 0; i < kSlots && file->slot_ < 0; ++i) {
      MappedSlot& slot = g_mapped[static_cast<size_t>(i)];
      if (slot.begin.load() != 0) continue;
      slot.damaged.store(false);
      slot.end.store(reinterpret_cast<uintptr_t>(data) + (file->size_ + g_page_size - 1) / g_page_size * g_page_size);
      slot.begin.store(reinterpret_cast<uintptr_t>(data), std::memory_order_release);
      file->slot_ = i;
    }
    if (file->slot_ < 0) {
      return make_error(ErrorCode::kLimit, "{}: more than {} files are mapped at once", quote(path, 4096), kSlots);
    }
  } else {
    close(fd);
  }
  return std::shared_ptr<const MappedFile>(std::move(file));
}

MappedFile::~MappedFile() {
  end_reading(identity_);
  if (slot_ >= 0) {
    std::lock_guard lock(g_mapped_mutex);
    g_mapped[static_cast<size_t>(slot_)].begin.store(0, std::memory_order_release);
  }
  if (data_) munmap(const_cast<std::byte*>(data_), size_);
}

bool MappedFile::damaged() const {
  return slot_ >= 0 && g_mapped[static_cast<size_t>(slot_)].damaged.load(std::memory_order_acquire);
}

Status MappedFile::check_intact() const {
  if (!damaged()) return {};
  return make_error(ErrorCode::kIo, "{}: the file was cut or replaced while it was in use", quote(path_, 4096));
}

void MappedFile::release(std::span<const std::byte> part) const {
  // With one page that is read the kernel maps what lies around it, up to a large folio: that goes too.
  constexpr uintptr_t kFolio = uintptr_t{2} << 20;
  if (part.empty()) return;
  const auto first = reinterpret_cast<uintptr_t>(part.data()), mapping = reinterpret_cast<uintptr_t>(data_);
  const uintptr_t begin = std::max(mapping, first / kFolio * kFolio);
  const uintptr_t end = std::min(mapping + size_, (first + part.size() + kFolio - 1) / kFolio * kFolio);
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace fovea
