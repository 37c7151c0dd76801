// The tokens of words that were met before.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace fovea::tokenizers {

// Tokens of the words met last in one text: most words of a text are among them.
class WordCache {
 public:
  static constexpr size_t kMaxBytes = 15, kMaxIds = 9;
  struct Entry {
    uint64_t key[2];  // the bytes of the word, zeros, its length; all 0: free
    uint8_t n_ids;
    uint8_t starts[kMaxIds];  // in the word, of each id
    int32_t ids[kMaxIds];
  };

  explicit WordCache(size_t text_bytes) : entries_(std::bit_ceil(std::clamp<size_t>(text_bytes / 16, 16, 8192))) {}

  // Its entry, or the one to overwrite (n_ids is 0 then). Precondition: 1 to kMaxBytes bytes.
  Entry& at(std::string_view word) {
    uint64_t key[2] = {0, 0};
    std::memcpy(key, word.data(), word.size());
    key[1] |= uint64_t{word.size()} << 56;
    uint64_t h = (key[0] ^ std::rotl(key[1], 23)) * 0x9E3779B97F4A7C15u;
    h ^= h >> 32;
    Entry& entry = entries_[static_cast<size_t>(h * 0xD6E8FEB86659FD93u >> 40) & (entries_.size() - 1)];
    if (entry.key[0] != key[0] || entry.key[1] != key[1]) entry = {{key[0], key[1]}, 0, {}, {}};
    return entry;
  }

 private:
  std::vector<Entry> entries_;
};

}  // namespace fovea::tokenizers
