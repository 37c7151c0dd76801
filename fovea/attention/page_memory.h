// Memory for the pages of a KV cache, all of one size: side by side in blocks, so that decoding at depth reads long
// runs instead of scattered pieces. Blocks are small while there are few, so that a short cache wastes little, and
// huge pages once there are many. A block without a page in use goes back to the system at once, but for kSpareBytes of
// them: what short texts take in turn is not cleared and mapped for each.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <set>
#include <vector>

namespace fovea::attention {

class PageMemory {
 public:
  static constexpr size_t kSpareBytes = size_t{8} << 20;

  explicit PageMemory(size_t page_bytes);
  ~PageMemory();
  PageMemory(const PageMemory&) = delete;
  PageMemory& operator=(const PageMemory&) = delete;

  void* take();           // page_bytes at a multiple of 64, with any content; from any thread
  void give(void* page);  // back, once
  size_t bytes_held();    // of all blocks

 private:
  using Open = std::set<std::byte*>;
  struct Block {
    size_t bytes = 0, n_used = 0;
    std::vector<std::byte*> free;
    Open::node_type full;  // its place in open_ while it is not there: giving a page back allocates nothing
  };

  size_t page_bytes_, small_block_bytes_, held_ = 0;
  std::mutex mutex_;
  std::map<std::byte*, Block> blocks_;  // by first byte
  Open open_;                           // blocks with a free page; the lowest is used first, so that others empty
};

}  // namespace fovea::attention
