#include "fovea/tokenizers/models/pair_merger.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <queue>

#include "fovea/base/check.h"

namespace fovea::tokenizers {

PairMerger::PairMerger(size_t n_merges)
    : slots_(std::bit_ceil(std::max<size_t>(16, n_merges + n_merges / 2)), Slot{0, 0, kNone, -1}) {}

size_t PairMerger::slot_of(uint32_t left, uint32_t right) const {
  uint64_t h = (uint64_t{left} << 32 | right) * 0x9E3779B97F4A7C15u;
  h ^= h >> 32;
  return static_cast<size_t>(h * 0xD6E8FEB86659FD93u >> 32) & (slots_.size() - 1);
}

// A free slot if the pair is in no merge.
const PairMerger::Slot& PairMerger::find(int32_t left, int32_t right) const {
  const auto l = static_cast<uint32_t>(left), r = static_cast<uint32_t>(right);
  for (size_t i = slot_of(l, r);; i = (i + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[i];
    if (slot.rank == kNone || (slot.left == l && slot.right == r)) return slot;
  }
}

bool PairMerger::add(int32_t left, int32_t right, int32_t result, uint32_t rank) {
  FOVEA_CHECK(left >= 0 && right >= 0 && result >= 0 && rank < kNone, "PairMerger: merge {} + {} = {}", left, right,
              result);
  FOVEA_CHECK(n_merges_ + 1 < slots_.size(), "PairMerger: more merges than were announced");
  auto& slot = const_cast<Slot&>(find(left, right));
  if (slot.rank != kNone) return false;
  slot = {static_cast<uint32_t>(left), static_cast<uint32_t>(right), rank, result};
  n_ranks_ = std::max(n_ranks_, rank + 1);
  ++n_merges_;
  return true;
}

void PairMerger::index_bytes(std::span<const int32_t> byte_ids) {
  FOVEA_CHECK(byte_ids.size() == 256, "PairMerger: {} byte tokens, wanted 256", byte_ids.size());
  const int32_t most = *std::max_element(byte_ids.begin(), byte_ids.end());
  byte_of_.assign(static_cast<size_t>(std::max(most, 0)) + 1, 0);
  byte_rank_.assign(256 * 256, kNone);
  for (size_t l = 0; l < 256; ++l) {
    if (byte_ids[l] >= 0) byte_of_[static_cast<size_t>(byte_ids[l])] = static_cast<uint8_t>(l);
  }
  for (const Slot& slot : slots_) {
    if (slot.rank == kNone || slot.left >= byte_of_.size() || slot.right >= byte_of_.size()) continue;
    const uint8_t l = byte_of_[slot.left], r = byte_of_[slot.right];
    if (byte_ids[l] == static_cast<int32_t>(slot.left) && byte_ids[r] == static_cast<int32_t>(slot.right))
      byte_rank_[size_t{l} << 8 | r] = slot.rank;
  }
}

uint32_t PairMerger::first_rank(int32_t left, int32_t right) const {
  if (byte_rank_.empty()) return find(left, right).rank;
  return byte_rank_[size_t{byte_of_[static_cast<size_t>(left)]} << 8 | byte_of_[static_cast<size_t>(right)]];
}

// Looks at all pairs again after every merge: quadratic, and the fastest for short words.
void PairMerger::merge_short(Scratch& word) const {
  uint32_t ranks[kShortWord];
  int32_t* ids = word.symbols.data();
  size_t n = word.symbols.size();
  word.spans.assign(n, 1);
  uint32_t* spans = word.spans.data();
  // The table of a large vocabulary lies in main memory: all first lookups are on their way together.
  for (size_t i = 0; byte_rank_.empty() && i + 1 < n; ++i) prefetch(ids[i], ids[i + 1]);
  for (size_t i = 0; i + 1 < n; ++i) ranks[i] = first_rank(ids[i], ids[i + 1]);
  while (n > 1) {
    uint32_t best = kNone;
    for (size_t i = 0; i + 1 < n; ++i) best = std::min(best, ranks[i]);
    if (best == kNone) break;
    const auto at = static_cast<size_t>(std::find(ranks, ranks + n - 1, best) - ranks);
    ids[at] = find(ids[at], ids[at + 1]).result;
    spans[at] += spans[at + 1];
    const size_t rest = n - at - 2;
    std::memmove(ids + at + 1, ids + at + 2, rest * sizeof(*ids));
    std::memmove(spans + at + 1, spans + at + 2, rest * sizeof(*spans));
    if (rest > 0) std::memmove(ranks + at + 1, ranks + at + 2, (rest - 1) * sizeof(*ranks));
    --n;
    if (at + 1 < n) ranks[at] = find(ids[at], ids[at + 1]).rank;
    if (at > 0) ranks[at - 1] = find(ids[at - 1], ids[at]).rank;
  }
  word.symbols.resize(n);
  word.spans.resize(n);
}

// The pending pairs of each rank form a chain in the order of the word, and ranks are taken in
// rising order; a merge may bring up a pair that ranks before the current one, which then goes first.
class LongWord {
 public:
  LongWord(const PairMerger& merger, PairMerger::Scratch& scratch) : m_(merger), s_(scratch), n_(s_.symbols.size()) {
    s_.cells = s_.symbols;
    s_.pending.clear();
    s_.pending.reserve(n_);
    s_.free = kNone;
    s_.first.resize(m_.n_ranks_, kNone);  // all kNone between words
    s_.last.resize(m_.n_ranks_, kNone);
  }

  void merge_all() {
    for (size_t i = 0; i + 1 < n_; ++i) push(m_.first_rank(s_.cells[i], s_.cells[i + 1]), static_cast<uint32_t>(i));
    for (;;) {
      if (!early_.empty() && (list_ == kNone || early_.top() < key(current_, s_.pending[list_].at))) {
        const uint64_t top = early_.top();
        early_.pop();
        join(static_cast<uint32_t>(top >> 32), static_cast<uint32_t>(top));
      } else if (list_ != kNone) {
        const uint32_t entry = list_, at = s_.pending[entry].at;
        list_ = s_.pending[entry].next;
        s_.pending[entry].next = s_.free;
        s_.free = entry;
        join(current_, at);
      } else if (!ranks_.empty()) {
        current_ = ranks_.top();
        ranks_.pop();
        list_ = s_.first[current_];
        s_.first[current_] = s_.last[current_] = kNone;
        sort_list();
      } else {
        break;
      }
    }
    s_.symbols.clear();
    s_.spans.clear();
    for (size_t i = 0; i < n_; i += s_.spans.back()) {
      s_.symbols.push_back(s_.cells[i]);
      s_.spans.push_back(span(i));
    }
  }

 private:
  static constexpr uint32_t kNone = PairMerger::kNone;
  static constexpr int32_t kInside = -1;
  static uint64_t key(uint32_t rank, uint32_t at) { return uint64_t{rank} << 32 | at; }

  void push(uint32_t rank, uint32_t at) {
    if (rank == kNone) return;
    if (current_ != kNone && rank <= current_) return early_.push(key(rank, at));
    uint32_t entry = s_.free;
    if (entry != kNone) {
      s_.free = s_.pending[entry].next;
    } else {
      entry = static_cast<uint32_t>(s_.pending.size());
      s_.pending.emplace_back();
    }
    s_.pending[entry] = {at, kNone};
    if (s_.first[rank] == kNone) {
      s_.first[rank] = entry;
      ranks_.push(rank);
    } else {
      s_.pending[s_.last[rank]].next = entry;
    }
    s_.last[rank] = entry;
  }

  void sort_list() {
    bool sorted = true;
    std::vector<uint32_t> at;
    for (uint32_t e = list_; e != kNone && sorted; e = s_.pending[e].next) {
      const uint32_t next = s_.pending[e].next;
      sorted = next == kNone || s_.pending[e].at <= s_.pending[next].at;
    }
    if (sorted) return;
    for (uint32_t e = list_; e != kNone; e = s_.pending[e].next) at.push_back(s_.pending[e].at);
    std::sort(at.begin(), at.end());
    size_t i = 0;
    for (uint32_t e = list_; e != kNone; e = s_.pending[e].next) s_.pending[e].at = at[i++];
  }

  // A token lies in as many cells as it has symbols: its id in the first, and minus their number in the
  // second and the last, if there are more. So both neighbours are found without links.
  uint32_t span(size_t at) const {
    return at + 1 < n_ && s_.cells[at + 1] < kInside ? static_cast<uint32_t>(-s_.cells[at + 1]) : 1;
  }
  void join(uint32_t rank, uint32_t at) {
    std::vector<int32_t>& cells = s_.cells;
    if (cells[at] < 0) return;
    const uint32_t left = span(at);
    const size_t middle = at + left;
    if (middle >= n_) return;
    const PairMerger::Slot& slot = m_.find(cells[at], cells[middle]);
    if (slot.rank != rank) return;  // one of them became another token meanwhile
    const uint32_t both = left + span(middle);
    const size_t end = at + both;
    cells[middle] = kInside;
    if (left > 1) cells[middle - 1] = kInside;
    if (both - left > 1) cells[middle + 1] = kInside;
    cells[at] = slot.result;
    cells[at + 1] = cells[end - 1] = -static_cast<int32_t>(both);
    if (at > 0) {
      const int32_t before = cells[at - 1];
      const uint32_t start = before >= 0 ? at - 1 : at - static_cast<uint32_t>(-before);
      push(m_.find(cells[start], slot.result).rank, start);
    }
    if (end < n_) push(m_.find(slot.result, cells[end]).rank, at);
  }

  const PairMerger& m_;
  PairMerger::Scratch& s_;
  const size_t n_;
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> ranks_;  // that have a chain
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> early_;
  uint32_t current_ = kNone, list_ = kNone;
};

void PairMerger::merge(Scratch& word) const {
  if (word.symbols.size() <= kShortWord) return merge_short(word);
  LongWord(*this, word).merge_all();
}

}  // namespace fovea::tokenizers
