#include "fovea/base/threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/base/cpu_count.h"

namespace fovea {
namespace {

using Clock = std::chrono::steady_clock;

// Longer than the serial work between two jobs of a decode step, shorter than a time slice.
constexpr auto kSpin = std::chrono::microseconds(40);
constexpr int kPausesPerYield = 16;
constexpr int kOutside = -1;

thread_local int this_thread_index = kOutside;  // inside a job: the index it was called with

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Returns when `word` is not `old`: spins first if asked to, then sleeps. Whoever changes the word
// does so with a read-modify-write, whose full barrier lets notify_all() see a sleeper. The yield is
// for a machine whose other cores are busy: the thread waited for may need this very core (100 000
// empty jobs on two busy cores: 0.2 s with it, 8 s without).
void wait_while(const std::atomic<int>& word, int old, bool spin) {
  if (spin) {
    const auto until = Clock::now() + kSpin;
    do {
      for (int i = 0; i < kPausesPerYield; ++i) {
        if (word.load(std::memory_order_acquire) != old) return;
        pause_cpu();
      }
      std::this_thread::yield();
    } while (Clock::now() < until);
  }
  word.wait(old, std::memory_order_acquire);
}

class IndexScope {
 public:
  explicit IndexScope(int index) : before_(this_thread_index) { this_thread_index = index; }
  ~IndexScope() { this_thread_index = before_; }
  IndexScope(const IndexScope&) = delete;
  IndexScope& operator=(const IndexScope&) = delete;

 private:
  int before_;
};

}  // namespace

struct ThreadPool::State {
  using Job = FunctionRef<void(int)>;

  ~State() {  // here, so that a pool whose third thread could not start ends the first two
    ends.store(true);
    tell();
    for (std::thread& worker : workers) worker.join();
  }

  void tell() {
    told.fetch_add(1);
    told.notify_all();
  }

  // On the caller and on every worker that comes while the caller is at it. One that has no core until the caller
  // is done finds the door closed and is not waited for: beside other programs that wait is a time slice long.
  void run(const Job& fn) {
    job = &fn;
    door.store(kOpen, std::memory_order_release);
    tell();
    call(fn, 0);
    door.fetch_sub(kOpen, std::memory_order_acq_rel);
    for (int left; (left = door.load(std::memory_order_acquire)) > 0;) wait_while(door, left, spins);
    if (failed.load()) {
      failed.store(false);
      std::rethrow_exception(std::exchange(error, nullptr));
    }
  }

  void call(const Job& fn, int thread) {
    const IndexScope scope(thread);
    try {
      fn(thread);
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
    }
  }

  bool enter() {
    int seen = door.load(std::memory_order_relaxed);
    while (seen >= kOpen) {
      if (door.compare_exchange_weak(seen, seen + 1, std::memory_order_acquire, std::memory_order_relaxed)) return true;
    }
    return false;
  }

  void work(int thread) {
    for (int seen = 0;;) {
      wait_while(told, seen, spins);
      seen = told.load(std::memory_order_acquire);
      if (ends.load()) return;
      if (!enter()) continue;  // too late for that job
      call(*job, thread);
      if (door.fetch_sub(1) == 1) door.notify_all();
    }
  }

  static constexpr int kOpen = 1 << 30;

  std::atomic<uint64_t> n_jobs{0};
  std::mutex callers;        // one job at a time; a second caller waits for the first
  const Job* job = nullptr;  // read inside the door only
  bool spins = true;
  std::exception_ptr error;
  std::atomic<bool> failed{false}, ends{false};
  alignas(64) std::atomic<int> told{0};  // jobs the workers were told of, and the end; wraps
  alignas(64) std::atomic<int> door{0};  // workers inside the job, + kOpen while more may enter
  std::vector<std::thread> workers;
};

ThreadPool::ThreadPool(int n_threads) : state_(std::make_unique<State>()) {
  FOVEA_CHECK(n_threads >= 1, "thread pool: {} threads asked for, at least 1 is needed", n_threads);
  // More threads than CPUs: spinning would only keep the one that has work from running.
  state_->spins = n_threads <= static_cast<int>(usable_cpus().size());
  for (int thread = 1; thread < n_threads; ++thread) {
    state_->workers.emplace_back([state = state_.get(), thread] { state->work(thread); });
  }
}

ThreadPool::~ThreadPool() = default;

int ThreadPool::size() const { return static_cast<int>(state_->workers.size()) + 1; }

uint64_t ThreadPool::n_jobs() const { return state_->n_jobs.load(std::memory_order_relaxed); }

void ThreadPool::for_each(int64_t n_tasks, FunctionRef<void(int64_t task, int thread)> fn) {
  if (this_thread_index != kOutside) {  // its own index, so that per-thread scratch stays apart
    const int thread = std::min(this_thread_index, size() - 1);
    for (int64_t task = 0; task < n_tasks; ++task) fn(task, thread);
    return;
  }
  if (size() == 1 || n_tasks <= 1) {  // nobody to share with: no barrier
    const std::lock_guard lock(state_->callers);
    const IndexScope scope(0);
    for (int64_t task = 0; task < n_tasks; ++task) fn(task, 0);
    return;
  }
  std::atomic<int64_t> next{0};
  const auto take_tasks = [&](int thread) {
    try {
      for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < n_tasks;) fn(task, thread);
    } catch (...) {
      next.store(n_tasks, std::memory_order_relaxed);  // the result is lost: let the others stop
      throw;
    }
  };
  const std::lock_guard lock(state_->callers);
  state_->n_jobs.fetch_add(1, std::memory_order_relaxed);
  state_->run(take_tasks);
}

namespace {

std::mutex pool_mutex;
std::unique_ptr<ThreadPool> the_pool;
std::atomic<ThreadPool*> ready_pool{nullptr};

void replace_pool(int n_threads) {  // with pool_mutex held
  ready_pool.store(nullptr);
  the_pool.reset();
  the_pool = std::make_unique<ThreadPool>(n_threads);
  ready_pool.store(the_pool.get(), std::memory_order_release);
}

}  // namespace

ThreadPool& pool() {
  if (ThreadPool* ready = ready_pool.load(std::memory_order_acquire)) return *ready;
  const std::lock_guard lock(pool_mutex);
  if (!the_pool) replace_pool(default_threads());
  return *the_pool;
}

void set_threads(int n_threads) {
  FOVEA_CHECK(this_thread_index == kOutside, "set_threads: called from inside a job");
  FOVEA_CHECK(n_threads >= 0, "set_threads: {} is no number of threads", n_threads);
  const std::lock_guard lock(pool_mutex);
  const int wanted = n_threads == 0 ? default_threads() : n_threads;
  if (!the_pool || the_pool->size() != wanted) replace_pool(wanted);
}

int default_threads() { return physical_cores(usable_cpus()); }

}  // namespace fovea
