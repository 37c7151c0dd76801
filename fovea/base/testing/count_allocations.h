// For tests: counts every call of operator new in this program, and lets one fail. Include it in one file of a program
// only.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

// The thread sanitizer brings an operator new of its own and allows no other.
#if defined(__SANITIZE_THREAD__)
#define FOVEA_COUNTS_ALLOCATIONS 0
#elif defined(__has_feature)
#define FOVEA_COUNTS_ALLOCATIONS !__has_feature(thread_sanitizer)
#else
#define FOVEA_COUNTS_ALLOCATIONS 1
#endif

namespace {
std::atomic<uint64_t> g_allocations{0};
[[maybe_unused]] std::atomic<uint64_t> g_failing_allocation{0};  // the one that throws, by its number; 0: none
}  // namespace

#if FOVEA_COUNTS_ALLOCATIONS
namespace {

void* counted(size_t bytes, size_t alignment) {
  if (++g_allocations == g_failing_allocation) throw std::bad_alloc();
  if (void* p = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment)) return p;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(size_t bytes) { return counted(bytes, 16); }
void* operator new(size_t bytes, std::align_val_t alignment) { return counted(bytes, static_cast<size_t>(alignment)); }
// std::stable_sort asks for its buffer in this way.
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  ++g_allocations;
  return std::aligned_alloc(16, (bytes + 15) / 16 * 16);
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, size_t) noexcept { std::free(p); }  // or GCC takes it for a mismatch
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }
#endif
