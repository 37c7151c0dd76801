// Byte-pair merging (Sennrich et al., arXiv:1508.07909): a word starts as its bytes, and the pair of
// neighbours that stands first in the list of merges is joined, leftmost first, until none is in it.
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

namespace fovea::tokenizers {

class PairMerger {
 public:
  // What merging works in; kept by the caller, so that one allocation serves many words.
  struct Scratch {
    struct Pending {
      uint32_t at, next;
    };
    std::vector<int32_t> cells;
    std::vector<Pending> pending;
    std::vector<uint32_t> first, last;  // of the pending pairs, by rank
    uint32_t free = 0;
  };

  // `byte_ids`: the token of each of the 256 bytes, -1 if there is none. `widths`: how many bytes each
  // token stands for; 0 for those that are no string of byte tokens.
  PairMerger(std::vector<int32_t> byte_ids, std::vector<uint32_t> widths, size_t n_merges);
  // Adds the next best merge; false if the pair is there already. Precondition: the width of `result`
  // is the sum of theirs, and neither is 0.
  bool add(int32_t left, int32_t right, int32_t result);
  void prefetch(int32_t left, int32_t right) const {
    __builtin_prefetch(&slots_[slot_of(static_cast<uint32_t>(left), static_cast<uint32_t>(right))]);
  }

  // Appends the tokens of `word`; a byte without a token gives nothing. Time n log n; memory 12 bytes
  // a byte for words of more than kShortWord bytes.
  void merge(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;
  // Where in `word` each of its tokens starts.
  void starts(std::string_view word, const int32_t* ids, size_t n_ids, uint32_t word_begin,
              std::vector<uint32_t>& out) const;
  uint32_t width(int32_t id) const { return widths_[static_cast<size_t>(id)]; }

  static constexpr size_t kShortWord = 256;

 private:
  friend class LongWord;
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  struct Slot {
    uint32_t left, right, rank;  // rank kNone: free
  };
  size_t slot_of(uint32_t left, uint32_t right) const;
  uint32_t rank_of(int32_t left, int32_t right) const;
  void merge_short(std::string_view word, std::vector<int32_t>& ids) const;

  std::vector<int32_t> byte_ids_;
  std::vector<uint32_t> widths_;
  std::vector<uint8_t> byte_of_;                // of a token one byte wide
  std::vector<uint32_t> byte_rank_;             // of two bytes: every word starts with these
  std::vector<Slot> slots_;                     // open addressing, a power of two
  std::vector<int32_t> left_, right_, result_;  // by rank
};

}  // namespace fovea::tokenizers
