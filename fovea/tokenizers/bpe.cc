#include "fovea/tokenizers/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <queue>

#include "fovea/base/check.h"

namespace fovea::tokenizers {

PairMerger::PairMerger(std::vector<int32_t> byte_ids, std::vector<uint32_t> widths, size_t n_merges)
    : byte_ids_(std::move(byte_ids)),
      widths_(std::move(widths)),
      byte_of_(widths_.size()),
      byte_rank_(256 * 256, kNone),
      slots_(std::bit_ceil(std::max<size_t>(16, n_merges * 3 / 2)), Slot{0, 0, kNone}) {
  FOVEA_CHECK(byte_ids_.size() == 256, "PairMerger: {} byte tokens, wanted 256", byte_ids_.size());
  left_.reserve(n_merges);
  right_.reserve(n_merges);
  result_.reserve(n_merges);
  for (size_t byte = 0; byte < 256; ++byte) {
    if (byte_ids_[byte] >= 0) byte_of_[static_cast<size_t>(byte_ids_[byte])] = static_cast<uint8_t>(byte);
  }
}

size_t PairMerger::slot_of(uint32_t left, uint32_t right) const {
  uint64_t h = (uint64_t{left} << 32 | right) * 0x9E3779B97F4A7C15u;
  h ^= h >> 32;
  return static_cast<size_t>(h * 0xD6E8FEB86659FD93u >> 32) & (slots_.size() - 1);
}

uint32_t PairMerger::rank_of(int32_t left, int32_t right) const {
  const auto l = static_cast<uint32_t>(left), r = static_cast<uint32_t>(right);
  for (size_t i = slot_of(l, r);; i = (i + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[i];
    if (slot.rank == kNone || (slot.left == l && slot.right == r)) return slot.rank;
  }
}

bool PairMerger::add(int32_t left, int32_t right, int32_t result) {
  const auto l = static_cast<uint32_t>(left), r = static_cast<uint32_t>(right);
  FOVEA_CHECK(result_.size() + 1 < slots_.size(), "PairMerger: more merges than were announced");
  FOVEA_CHECK(width(left) && width(right) && width(result) == width(left) + width(right),
              "PairMerger: merge {} + {} = {} has widths {} + {} = {}", left, right, result, width(left), width(right),
              width(result));
  size_t i = slot_of(l, r);
  for (; slots_[i].rank != kNone; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].left == l && slots_[i].right == r) return false;
  }
  const auto rank = static_cast<uint32_t>(result_.size());
  slots_[i] = {l, r, rank};
  if (width(left) == 1 && width(right) == 1) byte_rank_[byte_of_[l] << 8 | byte_of_[r]] = rank;
  left_.push_back(left);
  right_.push_back(right);
  result_.push_back(result);
  return true;
}

// Looks at all pairs again after every merge: quadratic, and the fastest for short words.
void PairMerger::merge_short(std::string_view word, std::vector<int32_t>& out) const {
  int32_t ids[kShortWord];
  uint32_t ranks[kShortWord];
  size_t n = 0;
  for (size_t i = 0, before = 0; i < word.size(); ++i) {
    const auto byte = static_cast<unsigned char>(word[i]);
    if (byte_ids_[byte] < 0) continue;
    if (n > 0) ranks[n - 1] = byte_rank_[before << 8 | byte];
    ids[n++] = byte_ids_[byte];
    before = byte;
  }
  while (n > 1) {
    uint32_t best = kNone;
    for (size_t i = 0; i + 1 < n; ++i) best = std::min(best, ranks[i]);
    if (best == kNone) break;
    const auto at = static_cast<size_t>(std::find(ranks, ranks + n - 1, best) - ranks);
    ids[at] = result_[best];
    std::memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof(*ids));
    if (at + 2 < n) std::memmove(ranks + at + 1, ranks + at + 2, (n - at - 3) * sizeof(*ranks));
    --n;
    if (at + 1 < n) ranks[at] = rank_of(ids[at], ids[at + 1]);
    if (at > 0) ranks[at - 1] = rank_of(ids[at - 1], ids[at]);
  }
  out.insert(out.end(), ids, ids + n);
}

// The pending pairs of each rank form a chain in the order of the word, and ranks are taken in
// rising order; a merge may bring up a pair that ranks before the current one, which then goes first.
class LongWord {
 public:
  LongWord(const PairMerger& merger, PairMerger::Scratch& scratch) : m_(merger), s_(scratch), n_(s_.cells.size()) {
    s_.pending.clear();
    s_.pending.reserve(n_);
    s_.free = kNone;
    s_.first.resize(m_.result_.size(), kNone);  // all kNone between words
    s_.last.resize(m_.result_.size(), kNone);
  }

  void merge_all() {
    for (size_t i = 0; i + 1 < n_; ++i) push(m_.rank_of(s_.cells[i], s_.cells[i + 1]), static_cast<uint32_t>(i));
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
        return;
      }
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

  // A token lies in as many cells as it has bytes: its id in the first, and, if there are more,
  // minus its width in the last. So both neighbours are found without links.
  void join(uint32_t rank, uint32_t at) {
    std::vector<int32_t>& cells = s_.cells;
    const int32_t left = m_.left_[rank], right = m_.right_[rank], result = m_.result_[rank];
    if (cells[at] != left) return;
    const size_t middle = at + m_.width(left), end = at + m_.width(result);
    if (middle >= n_ || cells[middle] != right) return;
    cells[middle] = kInside;
    cells[at] = result;
    cells[end - 1] = -static_cast<int32_t>(m_.width(result));
    if (at > 0) {
      const int32_t before = cells[at - 1];
      const uint32_t start = before >= 0 ? at - 1 : at - static_cast<uint32_t>(-before);
      push(m_.rank_of(cells[start], result), start);
    }
    if (end < n_) push(m_.rank_of(result, cells[end]), at);
  }

  const PairMerger& m_;
  PairMerger::Scratch& s_;
  const size_t n_;
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> ranks_;  // that have a chain
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> early_;
  uint32_t current_ = kNone, list_ = kNone;
};

void PairMerger::merge(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (word.size() <= kShortWord) return merge_short(word, ids);
  scratch.cells.clear();
  scratch.cells.reserve(word.size());
  for (const char c : word) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id >= 0) scratch.cells.push_back(id);
  }
  LongWord(*this, scratch).merge_all();
  for (size_t i = 0; i < scratch.cells.size(); i += width(scratch.cells[i])) ids.push_back(scratch.cells[i]);
}

void PairMerger::starts(std::string_view word, const int32_t* ids, size_t n_ids, uint32_t word_begin,
                        std::vector<uint32_t>& out) const {
  const auto has_token = [&](size_t at) { return byte_ids_[static_cast<unsigned char>(word[at])] >= 0; };
  size_t at = 0;
  for (size_t i = 0; i < n_ids; ++i) {
    while (!has_token(at)) ++at;
    out.push_back(word_begin + static_cast<uint32_t>(at));
    for (uint32_t left = width(ids[i]); left > 0; ++at) left -= has_token(at);
  }
}

}  // namespace fovea::tokenizers
