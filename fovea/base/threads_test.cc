#include "fovea/base/threads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "fovea/base/check.h"

namespace fovea {
namespace threads_test {

using ::testing::Each;

class ThreadPoolOf : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, ThreadPoolOf, ::testing::Range(1, 9));

// A job in which every thread of the pool takes part, each with one task.
void on_every_thread(ThreadPool& pool, FunctionRef<void(int thread)> fn) {
  std::atomic<int> arrived{0};
  pool.for_each(pool.size(), [&](int64_t, int thread) {
    ++arrived;
    while (arrived < pool.size()) std::this_thread::yield();
    fn(thread);
  });
}

TEST_P(ThreadPoolOf, SharesAJobAmongItsThreadsAndTheCallerIsZero) {
  ThreadPool pool(GetParam());
  ASSERT_EQ(pool.size(), GetParam());
  std::vector<int> calls(pool.size());
  std::vector<std::thread::id> ids(pool.size());
  on_every_thread(pool, [&](int thread) {
    ++calls[thread];
    ids[thread] = std::this_thread::get_id();
  });
  EXPECT_THAT(calls, Each(1));
  EXPECT_EQ(ids[0], std::this_thread::get_id());
}

TEST_P(ThreadPoolOf, CountsTheJobsThatOthersMayTakePartIn) {
  ThreadPool pool(GetParam());
  const auto nothing = [](int64_t, int) {};
  pool.for_each(1, nothing);
  EXPECT_EQ(pool.n_jobs(), 0u);
  pool.for_each(3, [&](int64_t, int) { pool.for_each(5, nothing); });
  pool.for_each(2, nothing);
  EXPECT_EQ(pool.n_jobs(), GetParam() == 1 ? 0u : 2u);
}

TEST_P(ThreadPoolOf, HandsOutEveryTaskOnce) {
  ThreadPool pool(GetParam());
  for (const int n_tasks : {0, 1, 2, 7, 1000}) {
    std::vector<int> calls(n_tasks);
    std::atomic<bool> in_range{true};
    pool.for_each(n_tasks, [&](int64_t task, int thread) {
      ++calls[task];
      if (thread < 0 || thread >= pool.size()) in_range = false;
    });
    EXPECT_THAT(calls, Each(1)) << n_tasks << " tasks";
    EXPECT_TRUE(in_range);
  }
}

TEST_P(ThreadPoolOf, WhatAJobWroteIsSeenByTheNext) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> value(8, 1);
  for (int step = 0; step < 2000; ++step) {  // whoever takes a task reads what others wrote the step before
    const std::vector<int64_t> before = value;
    pool.for_each(8, [&](int64_t task, int) { value[task] = before[(task + 1) % 8] + 1; });
  }
  EXPECT_THAT(value, Each(2001));
}

TEST_P(ThreadPoolOf, RethrowsOneExceptionAndStaysUsable) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 3; ++round) {
    EXPECT_THROW(on_every_thread(pool,
                                 [&](int thread) {
                                   if (thread == pool.size() - 1) throw std::runtime_error("last");
                                 }),
                 std::runtime_error);
    EXPECT_THROW(on_every_thread(pool, [](int) { throw std::runtime_error("all"); }), std::runtime_error);
    EXPECT_THROW(pool.for_each(100,
                               [](int64_t task, int) {
                                 if (task == 50) throw std::runtime_error("a task");
                               }),
                 std::runtime_error);
    std::atomic<int> calls{0};
    on_every_thread(pool, [&](int) { ++calls; });
    EXPECT_EQ(calls, pool.size());
  }
}

TEST_P(ThreadPoolOf, ACallFromInsideRunsInline) {
  ThreadPool pool(GetParam());
  std::vector<int> inner_tasks(pool.size());
  std::atomic<bool> moved{false};
  on_every_thread(pool, [&](int outer) {
    const auto id = std::this_thread::get_id();
    pool.for_each(10, [&](int64_t, int thread) {
      ++inner_tasks[outer];
      if (std::this_thread::get_id() != id || thread != outer) moved = true;
    });
  });
  EXPECT_THAT(inner_tasks, Each(10));
  EXPECT_FALSE(moved);
}

TEST(ThreadPool, ATaskThatThrowsStopsTheHandingOut) {
  ThreadPool pool(2);
  std::atomic<int64_t> calls{0};
  const auto fail_at_once = [&](int64_t, int) {
    ++calls;
    throw std::runtime_error("no");
  };
  EXPECT_THROW(pool.for_each(int64_t{1} << 40, fail_at_once), std::runtime_error);
  EXPECT_LE(calls, 2);
}

TEST_P(ThreadPoolOf, RunsManySmallJobsInARow) {
  ThreadPool pool(GetParam());
  int64_t sum = 0;  // of the caller alone: the tasks of a job are done when for_each returns
  std::array<int64_t, 4> part{};
  for (int job = 0; job < 20'000; ++job) {
    part.fill(0);
    pool.for_each(4, [&](int64_t task, int) { part[task] = task + 1; });
    for (const int64_t p : part) sum += p;
  }
  EXPECT_EQ(sum, 200'000);
}

TEST(ThreadPool, WakesParkedWorkersAndEndsWhileTheyAreParked) {
  ThreadPool pool(4);
  std::atomic<int> calls{0};
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // far past the spin: all are parked
    on_every_thread(pool, [&](int) { ++calls; });
  }
  EXPECT_EQ(calls, 80);
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST(ThreadPool, TwoCallersTakeTurns) {
  ThreadPool pool(2);
  std::array<int64_t, 3> unguarded{};  // a task of one job at a time touches each
  const auto call = [&] {
    for (int i = 0; i < 1000; ++i) pool.for_each(3, [&](int64_t task, int) { ++unguarded[task]; });
  };
  std::thread other(call);
  call();
  other.join();
  EXPECT_THAT(unguarded, Each(2000));
}

TEST(ThreadPool, RefusesToHaveNoThread) { EXPECT_THROW(ThreadPool(0), CheckFailed); }

TEST(Threads, SetThreadsChangesTheProcessPoolAndZeroIsTheDefault) {
  set_threads(3);
  EXPECT_EQ(pool().size(), 3);
  EXPECT_THROW(pool().for_each(3, [](int64_t, int) { set_threads(2); }), CheckFailed);
  EXPECT_THROW(set_threads(-1), CheckFailed);
  EXPECT_EQ(pool().size(), 3);
  set_threads(0);
  EXPECT_EQ(pool().size(), default_threads());
  EXPECT_GE(default_threads(), 1);
}

}  // namespace threads_test
}  // namespace fovea
