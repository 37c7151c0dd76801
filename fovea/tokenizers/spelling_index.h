// From the spelling of a token to its id.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <random>
#include <string_view>
#include <vector>

namespace fovea::tokenizers {

// Spelling -> id, open addressing. Keeps no copy of the spellings.
class SpellingIndex {
 public:
  explicit SpellingIndex(size_t n)
      : slots_(std::bit_ceil(std::max<size_t>(16, n * 3 / 2)), Slot{0, -1}), seed_(std::random_device{}()) {}

  // A file could be made whose spellings all fall on one slot, were the seed known.
  uint32_t hash(std::string_view s) const {
    uint64_t h = seed_ ^ s.size();
    const auto mix = [&h](uint64_t word) {
      h = (h ^ word) * 0x9E3779B97F4A7C15u;
      h ^= h >> 29;
    };
    const char* p = s.data();
    size_t n = s.size();
    for (; n >= 8; n -= 8, p += 8) {
      uint64_t word;
      std::memcpy(&word, p, 8);
      mix(word);
    }
    uint64_t word = 0;
    std::memcpy(&word, p, n);
    mix(word);
    return static_cast<uint32_t>(h * 0xD6E8FEB86659FD93u >> 32);
  }
  // `h` is hash(s), `spelling_of` leads from id to spelling. -1: none.
  template <typename SpellingOf>
  int32_t find(std::string_view s, uint32_t h, const SpellingOf& spelling_of) const {
    for (size_t i = h & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[i];
      if (slot.id < 0 || (slot.hash == h && spelling_of(slot.id) == s)) return slot.id;
    }
  }
  // The id that has the spelling already, or -1.
  template <typename SpellingOf>
  int32_t add(std::string_view s, uint32_t h, int32_t id, const SpellingOf& spelling_of) {
    size_t i = h & (slots_.size() - 1);
    for (; slots_[i].id >= 0; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i].hash == h && spelling_of(slots_[i].id) == s) return slots_[i].id;
    }
    slots_[i] = {h, id};
    return -1;
  }
  // A vocabulary is larger than the caches near the processor: lookups are made in batches, each step
  // of all of them before the next step of any. Without it loading takes twice the time.
  void prefetch(uint32_t h) const { __builtin_prefetch(&slots_[h & (slots_.size() - 1)]); }
  int32_t likely(uint32_t h) const { return slots_[h & (slots_.size() - 1)].id; }

 private:
  struct Slot {
    uint32_t hash;
    int32_t id;
  };
  std::vector<Slot> slots_;
  uint64_t seed_;
};

}  // namespace fovea::tokenizers
