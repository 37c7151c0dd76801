// Memory for the pages of a KV cache, all of one size: side by side in large blocks, so that decoding at depth reads
// long runs instead of scattered pieces (on huge pages, once there are many). A block without a page in use goes
// back to the system at once.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <set>
#include <vector>

namespace fovea::attention {

class PageMemory {
 public:
  explicit PageMemory(size_t page_bytes);
  ~PageMemory();
  PageMemory(const PageMemory&) = delete;
  PageMemory& operator=(const PageMemory&) = delete;

  void* take();           // page_bytes at a multiple of 64, with any content; from any thread
  void give(void* page);  // back, once
  size_t bytes_held();    // of all blocks

 private:
  struct Block {
    size_t n_used = 0;
    std::vector<std::byte*> free;
  };

  size_t page_bytes_, block_bytes_;
  std::mutex mutex_;
  std::map<std::byte*, Block> blocks_;  // by first byte
  std::set<std::byte*> open_;           // blocks with a free page; the lowest is used first, so that others empty
};

}  // namespace fovea::attention
