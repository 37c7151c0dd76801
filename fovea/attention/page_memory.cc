#include "fovea/attention/page_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <new>
#include <utility>

namespace fovea::attention {
namespace {

constexpr size_t kHugePage = size_t{2} << 20, kSmallPage = 4096;
// A huge page is given or taken as a whole: from here on that is a few percent of what is held.
constexpr size_t kHugeFrom = size_t{40} << 20;

size_t whole(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// 128 KiB to twice as much, where the least is left over behind the last page.
size_t small_block_bytes(size_t page_bytes) {
  constexpr size_t kLeast = size_t{128} << 10;
  const size_t least = std::max<size_t>(1, kLeast / page_bytes);
  size_t best = least;
  const auto waste = [&](size_t n) { return whole(n * page_bytes, kSmallPage) - n * page_bytes; };
  for (size_t n = least; n <= 2 * least; ++n) {
    if (waste(n) * best < waste(best) * n) best = n;
  }
  return whole(best * page_bytes, kSmallPage);
}

// From the system itself: the C library keeps freed blocks of this size for later.
std::byte* map_block(size_t bytes, size_t alignment) {
  void* all = ::mmap(nullptr, bytes + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) throw std::bad_alloc();
  auto* begin = static_cast<std::byte*>(all);
  const size_t before = (alignment - reinterpret_cast<uintptr_t>(begin) % alignment) % alignment;
  if (before > 0) ::munmap(begin, before);
  if (before < alignment) ::munmap(begin + before + bytes, alignment - before);
  return begin + before;
}

}  // namespace

PageMemory::PageMemory(size_t page_bytes)
    : page_bytes_(whole(page_bytes, 64)), small_block_bytes_(small_block_bytes(page_bytes_)) {}

PageMemory::~PageMemory() {
  for (const auto& [first, block] : blocks_) ::munmap(first, block.bytes);
}

void* PageMemory::take() {
  const std::lock_guard lock(mutex_);
  if (open_.empty()) {
    const bool many = held_ >= kHugeFrom;
    const size_t bytes = many ? whole(page_bytes_, kHugePage) : small_block_bytes_;
    std::byte* first = map_block(bytes, many ? kHugePage : kSmallPage);
#ifdef MADV_HUGEPAGE
    if (many) (void)madvise(first, bytes, MADV_HUGEPAGE);  // advice only
#endif
#ifdef MADV_POPULATE_WRITE
    // A block is soon full: all of it in one call, instead of a fault for every 4 KB.
    if (!many) (void)madvise(first, bytes, MADV_POPULATE_WRITE);
#endif
    held_ += bytes;
    Block& block = blocks_[first];
    block.bytes = bytes;
    for (size_t at = bytes / page_bytes_; at-- > 0;) block.free.push_back(first + at * page_bytes_);
    open_.insert(first);
  }
  std::byte* first = *open_.begin();
  Block& block = blocks_.at(first);
  std::byte* page = block.free.back();
  block.free.pop_back();
  ++block.n_used;
  if (block.free.empty()) block.full = open_.extract(first);
  return page;
}

void PageMemory::give(void* page) {
  const std::lock_guard lock(mutex_);
  auto* at = static_cast<std::byte*>(page);
  const auto found = std::prev(blocks_.upper_bound(at));
  Block& block = found->second;
  if (--block.n_used == 0 && held_ > kSpareBytes) {
    open_.erase(found->first);
    ::munmap(found->first, block.bytes);
    held_ -= block.bytes;
    blocks_.erase(found);
    return;
  }
  block.free.push_back(at);
  if (block.full) open_.insert(std::move(block.full));
}

size_t PageMemory::bytes_held() {
  const std::lock_guard lock(mutex_);
  return held_;
}

}  // namespace fovea::attention
