#include "fovea/base/threads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "fovea/base/check.h"

namespace fovea {
namespace {

using ::testing::Each;

class ThreadPoolOf : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, ThreadPoolOf, ::testing::Range(1, 9));

TEST_P(ThreadPoolOf, RunsEveryThreadIndexOnceAndTheCallerIsZero) {
  ThreadPool pool(GetParam());
  ASSERT_EQ(pool.size(), GetParam());
  std::vector<int> calls(pool.size());
  std::vector<std::thread::id> ids(pool.size());
  pool.run([&](int thread) {
    ++calls[thread];
    ids[thread] = std::this_thread::get_id();
  });
  EXPECT_THAT(calls, Each(1));
  EXPECT_EQ(ids[0], std::this_thread::get_id());
}

TEST_P(ThreadPoolOf, CountsTheJobsThatOthersTookPartIn) {
  ThreadPool pool(GetParam());
  const auto nothing = [](int64_t, int) {};
  pool.for_each(1, nothing);
  EXPECT_EQ(pool.n_jobs(), 0u);
  pool.run([&](int) { pool.for_each(5, nothing); });
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
  std::vector<int64_t> value(pool.size(), 1);
  for (int step = 0; step < 200; ++step) {
    const std::vector<int64_t> before = value;
    pool.run([&](int thread) { value[thread] = (before[(thread + 1) % pool.size()] + 1) % 1000; });
  }
  EXPECT_THAT(value, Each(201));
}

TEST_P(ThreadPoolOf, RethrowsOneExceptionAndStaysUsable) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 3; ++round) {
    EXPECT_THROW(pool.run([&](int thread) {
      if (thread == pool.size() - 1) throw std::runtime_error("last");
    }),
                 std::runtime_error);
    EXPECT_THROW(pool.run([](int) { throw std::runtime_error("all"); }), std::runtime_error);
    EXPECT_THROW(pool.for_each(100,
                               [](int64_t task, int) {
                                 if (task == 50) throw std::runtime_error("a task");
                               }),
                 std::runtime_error);
    std::atomic<int> calls{0};
    pool.run([&](int) { ++calls; });
    EXPECT_EQ(calls, pool.size());
  }
}

TEST_P(ThreadPoolOf, ACallFromInsideRunsInline) {
  ThreadPool pool(GetParam());
  std::vector<int> inner_runs(pool.size()), inner_tasks(pool.size());
  std::atomic<bool> moved{false};
  pool.run([&](int outer) {
    const auto id = std::this_thread::get_id();
    pool.run([&](int) {
      ++inner_runs[outer];
      if (std::this_thread::get_id() != id) moved = true;
    });
    pool.for_each(10, [&](int64_t, int thread) {
      ++inner_tasks[outer];
      if (std::this_thread::get_id() != id || thread != outer) moved = true;
    });
  });
  EXPECT_THAT(inner_runs, Each(pool.size()));
  EXPECT_THAT(inner_tasks, Each(10));
  EXPECT_FALSE(moved);
}

TEST(ThreadPool, SharesAJobAmongThreads) {
  ThreadPool pool(2);
  std::atomic<int> arrived{0};
  pool.run([&](int) {  // ends only if both run at once
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
  });
  EXPECT_EQ(arrived, 2);
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

TEST(ThreadPool, RunsManySmallJobsInARow) {
  ThreadPool pool(2);
  std::atomic<int64_t> sum{0};
  for (int job = 0; job < 100'000; ++job)
    pool.run([&](int thread) { sum.fetch_add(thread + 1, std::memory_order_relaxed); });
  EXPECT_EQ(sum, 300'000);
}

TEST(ThreadPool, WakesParkedWorkersAndEndsWhileTheyAreParked) {
  ThreadPool pool(4);
  std::atomic<int> calls{0};
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // far past the spin: all are parked
    pool.run([&](int) { ++calls; });
  }
  EXPECT_EQ(calls, 80);
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST(ThreadPool, TwoCallersTakeTurns) {
  ThreadPool pool(2);
  int64_t unguarded = 0;  // only thread 0 of a job touches it
  const auto call = [&] {
    for (int i = 0; i < 1000; ++i) {
      pool.run([&](int thread) {
        if (thread == 0) ++unguarded;
      });
    }
  };
  std::thread other(call);
  call();
  other.join();
  EXPECT_EQ(unguarded, 2000);
}

TEST(ThreadPool, RefusesToHaveNoThread) { EXPECT_THROW(ThreadPool(0), CheckFailed); }

TEST(Threads, SetThreadsChangesTheProcessPoolAndZeroIsTheDefault) {
  set_threads(3);
  EXPECT_EQ(pool().size(), 3);
  EXPECT_THROW(pool().run([](int) { set_threads(2); }), CheckFailed);
  EXPECT_THROW(set_threads(-1), CheckFailed);
  EXPECT_EQ(pool().size(), 3);
  set_threads(0);
  EXPECT_EQ(pool().size(), default_threads());
  EXPECT_GE(default_threads(), 1);
}

}  // namespace
}  // namespace fovea
