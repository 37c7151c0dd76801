#include "fovea/tensor/exec.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <new>

#include "fovea/base/check.h"
#include "fovea/tensor/storage.h"

namespace fovea::tensor {
namespace {

constexpr std::align_val_t kAlignment{64};
thread_local Exec* t_current = nullptr;
std::atomic<uint64_t> g_next_id{1};

size_t rounded(size_t bytes) { return std::max<size_t>(64, (bytes + 63) / 64 * 64); }

}  // namespace

struct Arena::State {
  std::mutex mutex;                 // tensors end on any thread
  int64_t users = 1;                // the arena itself and every storage in use
  bool closed = false;              // the arena is gone: nothing waits for reuse
  std::map<size_t, Storage*> free;  // by capacity, lists that may be empty
  size_t in_use = 0, held = 0, peak = 0;
  uint64_t heap_allocations = 0;

  void leave() {
    bool last = false;
    {
      const std::lock_guard lock(mutex);
      last = --users == 0;
    }
    if (last) delete this;
  }
};

Storage* Storage::create(size_t bytes) {
  const size_t capacity = rounded(bytes);
  Exec* exec = Exec::current();
  Arena::State* arena = exec && exec->arena ? exec->arena->state_ : nullptr;
  Storage* storage = nullptr;
  std::unique_lock<std::mutex> lock;
  if (arena) {
    lock = std::unique_lock(arena->mutex);
    // The smallest that holds it, but none of twice the size: a last, shorter chunk finds room in the blocks of
    // those before it, and one row does not take what a chunk will ask for.
    auto it = arena->free.lower_bound(capacity);
    while (it != arena->free.end() && !it->second) ++it;
    if (it != arena->free.end() && it->first < 2 * capacity) {
      storage = it->second;
      it->second = storage->next_free_;
    }
  }
  if (!storage) {
    if (arena) arena->free.try_emplace(capacity);  // release() must find it: a destructor cannot allocate
    auto* data = static_cast<float*>(::operator new(capacity, kAlignment));
    storage = new (std::nothrow) Storage;
    if (!storage) {
      ::operator delete(data, kAlignment);
      throw std::bad_alloc();
    }
    storage->data_ = data;
    storage->capacity_ = capacity;
    storage->arena_ = arena;
    if (arena) {
      arena->held += capacity;
      ++arena->heap_allocations;
    }
  }
  if (arena) {
    ++arena->users;
    arena->in_use += storage->capacity_;
    arena->peak = std::max(arena->peak, arena->in_use);
  }
  storage->references_.store(1, std::memory_order_relaxed);
  storage->id_ = g_next_id.fetch_add(1, std::memory_order_relaxed);
  return storage;
}

void Storage::release() {
  if (references_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  Arena::State* arena = arena_;
  if (arena) {
    const std::lock_guard lock(arena->mutex);
    arena->in_use -= capacity_;
    if (!arena->closed) {
      --arena->users;
      Storage*& head = arena->free.at(capacity_);
      next_free_ = head;
      head = this;
      return;
    }
  }
  ::operator delete(data_, kAlignment);
  delete this;
  if (arena) arena->leave();
}

Arena::Arena() : state_(new State) {}
Arena::~Arena() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->closed = true;
  }
  trim();
  state_->leave();
}
size_t Arena::bytes_in_use() const {
  const std::lock_guard lock(state_->mutex);
  return state_->in_use;
}
size_t Arena::bytes_held() const {
  const std::lock_guard lock(state_->mutex);
  return state_->held;
}
size_t Arena::peak_bytes() const {
  const std::lock_guard lock(state_->mutex);
  return state_->peak;
}
uint64_t Arena::heap_allocations() const {
  const std::lock_guard lock(state_->mutex);
  return state_->heap_allocations;
}

void Arena::trim() {
  const std::lock_guard lock(state_->mutex);
  for (auto& [capacity, head] : state_->free) {
    while (head) {
      Storage* storage = head;
      head = storage->next_free_;
      ::operator delete(storage->data_, kAlignment);
      delete storage;
      state_->held -= capacity;
    }
  }
}

Exec* Exec::current() { return t_current; }
ExecScope::ExecScope(Exec& exec) : previous_(t_current) { t_current = &exec; }
ExecScope::~ExecScope() { t_current = previous_; }

}  // namespace fovea::tensor
