#include "fovea/base/temporary_files.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <mutex>

namespace fovea {
namespace {

// The handler takes whole paths only, and one that it took is not written over any more.
enum State : int { kFree, kFilling, kListed, kTaken };
struct Slot {
  std::atomic<int> state{kFree};
  char path[4096];
};
std::array<Slot, 64> g_slots;
std::mutex g_mutex;  // of those who add and forget; a handler must not wait for them
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler reads them");

bool move(Slot& slot, int from, int to) noexcept {
  return slot.state.compare_exchange_strong(from, to, std::memory_order_acq_rel);
}

}  // namespace

void add_temporary_file(const std::string& path) {
  if (path.size() >= sizeof(Slot::path)) return;
  const std::lock_guard lock(g_mutex);
  for (Slot& slot : g_slots) {
    if (!move(slot, kFree, kFilling)) continue;
    std::memcpy(slot.path, path.c_str(), path.size() + 1);
    slot.state.store(kListed, std::memory_order_release);
    return;
  }
}

void forget_temporary_file(const std::string& path) {
  const std::lock_guard lock(g_mutex);
  for (Slot& slot : g_slots) {
    if (slot.state.load(std::memory_order_acquire) == kListed && path == slot.path && move(slot, kListed, kFree))
      return;
  }
}

void remove_temporary_files() noexcept {
  for (Slot& slot : g_slots) {
    if (move(slot, kListed, kTaken)) ::unlink(slot.path);
  }
}

}  // namespace fovea
