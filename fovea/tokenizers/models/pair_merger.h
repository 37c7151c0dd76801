// Byte-pair merging (Sennrich et al., arXiv:1508.07909): a word starts as its symbols, bytes or characters, and the
// pair of neighbours that ranks first is joined, leftmost first, until none is in the list.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace fovea::tokenizers {

class PairMerger {
 public:
  // A word, and what merging works in; kept by the caller, so that one allocation serves many words.
  struct Scratch {
    std::vector<int32_t> symbols;  // in: none negative; out: the tokens
    std::vector<uint32_t> spans;   // out: how many symbols each is made of

    struct Pending {
      uint32_t at, next;
    };
    std::vector<int32_t> cells;
    std::vector<Pending> pending;
    std::vector<uint32_t> first, last;  // of the pending pairs, by rank
    uint32_t free = 0;
  };

  explicit PairMerger(size_t n_merges);
  // `rank`: the lower the sooner, below UINT32_MAX; several merges may share one. False if the pair is there already.
  bool add(int32_t left, int32_t right, int32_t result, uint32_t rank);
  // `byte_ids`: the symbol of each of the 256 bytes, -1 if there is none, where all words are made of these: the first
  // ranks of a word then come from a table. After the last add().
  void index_bytes(std::span<const int32_t> byte_ids);
  void prefetch(int32_t left, int32_t right) const {
    __builtin_prefetch(&slots_[slot_of(static_cast<uint32_t>(left), static_cast<uint32_t>(right))]);
  }
  size_t n_merges() const { return n_merges_; }

  // Time n log n; memory 20 bytes a symbol for words of more than kShortWord.
  void merge(Scratch& word) const;

  static constexpr size_t kShortWord = 256;

 private:
  friend class LongWord;
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  struct Slot {
    uint32_t left, right, rank;  // rank kNone: free
    int32_t result;
  };
  size_t slot_of(uint32_t left, uint32_t right) const;
  const Slot& find(int32_t left, int32_t right) const;
  uint32_t first_rank(int32_t left, int32_t right) const;
  void merge_short(Scratch& word) const;

  std::vector<Slot> slots_;  // open addressing, a power of two; at least one is free
  size_t n_merges_ = 0;
  uint32_t n_ranks_ = 0;
  std::vector<uint8_t> byte_of_;  // by symbol
  std::vector<uint32_t> byte_rank_;
};

}  // namespace fovea::tokenizers
