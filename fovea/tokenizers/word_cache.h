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
  // A space in front takes three bytes as SentencePiece writes it, a letter outside of ASCII two or three.
  static constexpr size_t kMaxBytes = 31, kMaxIds = 12;
  struct Key {
    uint64_t words[4];  // the bytes of the word, zeros, its length; all 0: free
    bool operator==(const Key&) const = default;
  };
  struct Entry {
    Key key;
    uint8_t n_ids;
    uint8_t starts[kMaxIds];  // in the word, of each id
    int32_t ids[kMaxIds];
  };

  // About as many as a text of natural language has words; a few megabytes at most.
  explicit WordCache(size_t text_bytes) : entries_(std::bit_ceil(std::clamp<size_t>(text_bytes / 32, 16, 65536))) {}

  // Its entry, or the one to overwrite (n_ids is 0 then). Precondition: 1 to kMaxBytes bytes.
  Entry& at(std::string_view word) {
    Key key = {};
    std::memcpy(key.words, word.data(), word.size());
    key.words[3] |= uint64_t{word.size()} << 56;
    uint64_t h = (key.words[0] ^ std::rotl(key.words[1], 23)) * 0x9E3779B97F4A7C15u;
    h ^= (key.words[2] ^ std::rotl(key.words[3], 29)) * 0xC2B2AE3D27D4EB4Fu;
    h ^= h >> 32;
    Entry& entry = entries_[static_cast<size_t>(h * 0xD6E8FEB86659FD93u >> 40) & (entries_.size() - 1)];
    if (entry.key != key) entry.key = key, entry.n_ids = 0;
    return entry;
  }

 private:
  std::vector<Entry> entries_;
};

}  // namespace fovea::tokenizers
