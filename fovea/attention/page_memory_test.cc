#include "fovea/attention/page_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "fovea/base/testing/count_allocations.h"

namespace fovea::attention {
namespace page_memory_test {

TEST(PageMemory, PagesAreAlignedAndDoNotOverlap) {
  constexpr size_t kBytes = 1000;
  PageMemory memory(kBytes);
  std::vector<char*> pages;
  for (int i = 0; i < 5000; ++i) {  // more than one block
    auto* page = static_cast<char*>(memory.take());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(page) % 64, 0u);
    std::memset(page, i % 100, kBytes);
    pages.push_back(page);
  }
  for (size_t i = 0; i < pages.size(); ++i) {
    EXPECT_EQ(pages[i][0], static_cast<char>(i % 100));
    EXPECT_EQ(pages[i][kBytes - 1], static_cast<char>(i % 100));
  }
  for (char* page : pages) memory.give(page);
}

TEST(PageMemory, AFreedPageIsUsedAgainBeforeABlockIsAdded) {
  PageMemory memory(size_t{1} << 20);
  void* first = memory.take();
  void* second = memory.take();
  const size_t held = memory.bytes_held();
  memory.give(first);
  EXPECT_EQ(memory.take(), first);
  EXPECT_EQ(memory.bytes_held(), held);
  memory.give(first);
  memory.give(second);
}

TEST(PageMemory, ASmallBlockIsThereAsAWholeAtItsFirstPage) {
#ifdef MADV_POPULATE_WRITE
  constexpr size_t kBlock = size_t{128} << 10, kSystemPage = 4096;
  void* probe = ::mmap(nullptr, kSystemPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(probe, MAP_FAILED);
  const bool populates = ::madvise(probe, kSystemPage, MADV_POPULATE_WRITE) == 0;
  ::munmap(probe, kSystemPage);
  if (!populates) GTEST_SKIP() << "this system has no MADV_POPULATE_WRITE";
  PageMemory memory(8320);
  void* page = memory.take();  // nothing was written
  std::vector<unsigned char> resident(kBlock / kSystemPage);
  ASSERT_EQ(::mincore(page, kBlock, resident.data()), 0);
  EXPECT_TRUE(std::all_of(resident.begin(), resident.end(), [](unsigned char there) { return there & 1; }));
  memory.give(page);
#else
  GTEST_SKIP() << "this system has no MADV_POPULATE_WRITE";
#endif
}

TEST(PageMemory, ABlockWithoutPagesInUseGoesBack) {
  PageMemory memory(size_t{1} << 19);
  std::vector<void*> pages;
  for (int i = 0; i < 40; ++i) pages.push_back(memory.take());
  const size_t held = memory.bytes_held();
  EXPECT_GE(held, size_t{20} << 20);
  for (size_t i = 8; i < pages.size(); ++i) memory.give(pages[i]);
  EXPECT_LE(memory.bytes_held(), held / 2);
  for (size_t i = 0; i < 8; ++i) memory.give(pages[i]);
  EXPECT_LE(memory.bytes_held(), PageMemory::kSpareBytes);
}

TEST(PageMemory, WhatFewPagesTookStaysForTheNext) {
  PageMemory memory(8192);
  size_t held = 0;
  for (int round = 0; round < 2; ++round) {
    std::vector<void*> pages;
    for (int i = 0; i < 500; ++i) pages.push_back(memory.take());
    if (round == 0) held = memory.bytes_held();
    ASSERT_LE(held, PageMemory::kSpareBytes);
    for (void* page : pages) memory.give(page);
    EXPECT_EQ(memory.bytes_held(), held);
  }
}

TEST(PageMemory, LittleOfABlockIsLeftOverWherePagesDoNotDivideIt) {
  constexpr size_t kPage = 8320;  // int16 codes of 64-wide heads: 15.75 of them in 128 KiB
  PageMemory memory(kPage);
  std::vector<void*> pages;
  for (int i = 0; i < 300; ++i) pages.push_back(memory.take());
  EXPECT_LE(memory.bytes_held(), 300 * kPage * 101 / 100);
  for (void* page : pages) memory.give(page);
}

TEST(PageMemory, APageLargerThanABlockStillFits) {
  PageMemory memory((size_t{2} << 20) + 1);
  void* page = memory.take();
  std::memset(page, 1, (size_t{2} << 20) + 1);
  memory.give(page);
}

TEST(PageMemory, ThreadsMayTakeAndGiveAtOnce) {
  PageMemory memory(4096);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&memory, t] {
      std::vector<char*> mine;
      for (int i = 0; i < 300; ++i) {
        mine.push_back(static_cast<char*>(memory.take()));
        *mine.back() = static_cast<char>(t);
        if (i % 3 == 0) {
          memory.give(mine.back());
          mine.pop_back();
        }
      }
      for (char* page : mine) {
        EXPECT_EQ(*page, static_cast<char>(t));
        memory.give(page);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(memory.bytes_held(), PageMemory::kSpareBytes);
}

#if FOVEA_COUNTS_ALLOCATIONS
TEST(PageMemory, GivingAPageBackAllocatesNothing) {
  PageMemory memory(1000);
  std::vector<void*> pages;
  for (int i = 0; i < 1000; ++i) pages.push_back(memory.take());  // some blocks are full
  const uint64_t before = g_allocations;
  for (void* page : pages) memory.give(page);
  EXPECT_EQ(g_allocations, before) << "a destructor calls it";
}
#endif

}  // namespace page_memory_test
}  // namespace fovea::attention
