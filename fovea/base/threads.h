// The one thread pool of the process. Workers spin for a short while after a job (the next one
// usually follows within microseconds), then park.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>

namespace fovea {

// A reference to a callable that outlives the call; no allocation, unlike std::function.
template <typename Signature>
class FunctionRef;
template <typename R, typename... Args>
class FunctionRef<R(Args...)> {
 public:
  template <typename F>
  FunctionRef(F&& f)  // NOLINT: implicit by design
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* o, Args... args) -> R { return (*static_cast<std::remove_reference_t<F>*>(o))(args...); }) {}
  R operator()(Args... args) const { return call_(object_, args...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

class ThreadPool {
 public:
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;         // threads that run a job, the caller among them
  uint64_t n_jobs() const;  // jobs that were offered to all threads so far, a barrier each

  // fn(task, thread) for every task in [0, n_tasks), thread in [0, size()), the caller being 0; returns when all are
  // done. Tasks are handed out in order, whoever is free takes the next; the caller waits for the tasks that others
  // have begun, never for a thread that has begun none. Results must not depend on which thread ran a task. From
  // inside a job all tasks run inline with that job's own thread index, so that scratch per thread stays apart.
  // The first exception thrown by fn is rethrown here, and after it no further task is begun. A second caller waits
  // for the first.
  void for_each(int64_t n_tasks, FunctionRef<void(int64_t task, int thread)> fn);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The process's pool. `set_threads(0)` = one per physical core this process may use. Changing the
// size while a job runs is a caller's mistake. The answer of any computation is the same for
// every size.
ThreadPool& pool();
void set_threads(int n_threads);
int default_threads();

}  // namespace fovea
