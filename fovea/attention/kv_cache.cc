#include "fovea/attention/kv_cache.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <utility>

#include "fovea/attention/page_memory.h"
#include "fovea/base/check.h"

namespace fovea::attention {
namespace {

using kernels::kNoPosition;
using kernels::kPageKeys;

uint32_t live_slots(const std::array<int32_t, kPageKeys>& positions) {
  uint32_t live = 0;
  for (size_t slot = 0; slot < kPageKeys; ++slot) live |= static_cast<uint32_t>(positions[slot] != kNoPosition) << slot;
  return live;
}

}  // namespace

struct KvCache::Memory {
  explicit Memory(size_t page_bytes) : pages(page_bytes) {}
  PageMemory pages;
  std::atomic<uint64_t> n_live{0};
};

// The page's bytes and the positions beside them, so that a shared page carries both.
struct KvCache::Page {
  Page(size_t n_bytes, std::shared_ptr<Memory> from) : memory(std::move(from)), bytes(memory->pages.take()) {
    std::memset(bytes, 0, n_bytes);  // a dead slot must not hold NaN: 0 * NaN would leak into z
    positions.fill(kNoPosition);
    ++memory->n_live;
  }
  ~Page() {
    memory->pages.give(bytes);
    --memory->n_live;
  }
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;

  std::shared_ptr<Memory> memory;
  void* bytes;
  std::array<int32_t, kPageKeys> positions;
};

struct KvCache::Head {
  std::vector<std::shared_ptr<Page>> pages;
  std::vector<kernels::KeyBlock> blocks;  // mirrors `pages`
  int n_used_last = 0;                    // slots written in the last page, dead ones among them
  int64_t n_keys = 0;
  int32_t last_position = -1;

  void push(std::shared_ptr<Page> page) {
    blocks.push_back({page->bytes, page->positions.data()});
    pages.push_back(std::move(page));
    n_used_last = 0;
  }
  void remirror() {
    blocks.clear();
    for (const auto& page : pages) blocks.push_back({page->bytes, page->positions.data()});
  }
};

KvCache::KvCache(const CacheShape& shape)
    : shape_(shape),
      page_bytes_(kernels::page_bytes(shape.type, shape.head_dim)),
      memory_(std::make_shared<Memory>(page_bytes_)) {
  FOVEA_CHECK(shape.n_layers > 0 && shape.n_kv_heads > 0 && shape.head_dim > 0,
              "kv cache: {} layers, {} KV heads and head_dim {} must all be positive", shape.n_layers, shape.n_kv_heads,
              shape.head_dim);
}

KvCache::~KvCache() = default;

void KvCache::create(SequenceId sequence) {
  Sequence& heads = sequences_[sequence];
  if (heads.empty()) heads.resize(static_cast<size_t>(shape_.n_layers) * shape_.n_kv_heads);
}

bool KvCache::has(SequenceId sequence) const { return sequences_.count(sequence) > 0; }

void KvCache::remove(SequenceId sequence) { sequences_.erase(sequence); }

void KvCache::fork(SequenceId from, SequenceId to) {
  const auto source = sequences_.find(from);
  FOVEA_CHECK(source != sequences_.end(), "kv cache: no sequence {} to fork", from);
  FOVEA_CHECK(!has(to), "kv cache: sequence {} exists already", to);
  sequences_.emplace(to, source->second);
}

KvCache::Head& KvCache::head(SequenceId sequence, int layer, int kv_head) {
  FOVEA_CHECK(layer >= 0 && layer < shape_.n_layers && kv_head >= 0 && kv_head < shape_.n_kv_heads,
              "kv cache: layer {} head {} of {} x {}", layer, kv_head, shape_.n_layers, shape_.n_kv_heads);
  const auto it = sequences_.find(sequence);
  if (it == sequences_.end()) {
    create(sequence);
    return head(sequence, layer, kv_head);
  }
  return it->second[static_cast<size_t>(layer) * shape_.n_kv_heads + kv_head];
}

const KvCache::Head* KvCache::find_head(SequenceId sequence, int layer, int kv_head) const {
  FOVEA_CHECK(layer >= 0 && layer < shape_.n_layers && kv_head >= 0 && kv_head < shape_.n_kv_heads,
              "kv cache: layer {} head {} of {} x {}", layer, kv_head, shape_.n_layers, shape_.n_kv_heads);
  const auto it = sequences_.find(sequence);
  return it == sequences_.end() ? nullptr : &it->second[static_cast<size_t>(layer) * shape_.n_kv_heads + kv_head];
}

std::shared_ptr<KvCache::Page> KvCache::new_page() { return std::make_shared<Page>(page_bytes_, memory_); }

KvCache::Page& KvCache::writable(Head& h, size_t index) {
  std::shared_ptr<Page>& page = h.pages[index];
  if (page.use_count() > 1) {
    std::shared_ptr<Page> copy = new_page();
    std::memcpy(copy->bytes, page->bytes, page_bytes_);
    copy->positions = page->positions;
    page = std::move(copy);
    h.blocks[index] = {page->bytes, page->positions.data()};
  }
  return *page;
}

void KvCache::append(SequenceId sequence, int layer, int kv_head, int32_t position, const float* k, const float* v) {
  Head& h = head(sequence, layer, kv_head);
  FOVEA_CHECK(position > h.last_position && position < kNoPosition, "kv cache: position {} after {} does not rise",
              position, h.last_position);
  if (h.pages.empty() || h.n_used_last == kPageKeys) h.push(new_page());
  Page& page = writable(h, h.pages.size() - 1);
  kernels::page_write(page.bytes, shape_.type, shape_.head_dim, h.n_used_last, k, v);
  page.positions[static_cast<size_t>(h.n_used_last++)] = position;
  h.last_position = position;
  ++h.n_keys;
}

std::span<const kernels::KeyBlock> KvCache::blocks(SequenceId sequence, int layer, int kv_head) const {
  const Head* h = find_head(sequence, layer, kv_head);
  return h ? std::span<const kernels::KeyBlock>(h->blocks) : std::span<const kernels::KeyBlock>();
}

std::vector<int32_t> KvCache::positions(SequenceId sequence, int layer, int kv_head) const {
  std::vector<int32_t> live;
  if (const Head* h = find_head(sequence, layer, kv_head)) {
    for (const auto& page : h->pages) {
      std::copy_if(page->positions.begin(), page->positions.end(), std::back_inserter(live),
                   [](int32_t p) { return p != kNoPosition; });
    }
  }
  return live;
}

int64_t KvCache::n_keys(SequenceId sequence, int layer, int kv_head) const {
  const Head* h = find_head(sequence, layer, kv_head);
  return h ? h->n_keys : 0;
}

void KvCache::retain(SequenceId sequence, int layer, int kv_head, const std::function<bool(int32_t position)>& keep) {
  if (!has(sequence)) return;
  Head& h = head(sequence, layer, kv_head);
  const size_t n_before = h.pages.size();
  std::vector<std::shared_ptr<Page>> kept_pages;
  h.n_keys = 0;
  for (size_t i = 0; i < n_before; ++i) {
    uint32_t live = 0, kept = 0;
    for (int slot = 0; slot < kPageKeys; ++slot) {
      const int32_t position = h.pages[i]->positions[static_cast<size_t>(slot)];
      if (position == kNoPosition) continue;
      live |= 1u << slot;
      if (keep(position)) kept |= 1u << slot;
    }
    if (kept == 0) continue;
    if (kept != live) {
      Page& page = writable(h, i);
      for (int slot = 0; slot < kPageKeys; ++slot) {
        if (live >> slot & ~(kept >> slot) & 1u) page.positions[static_cast<size_t>(slot)] = kNoPosition;
      }
    }
    h.n_keys += __builtin_popcount(kept);
    kept_pages.push_back(h.pages[i]);
  }
  const bool last_survives = !kept_pages.empty() && kept_pages.back() == h.pages.back();
  h.pages = std::move(kept_pages);
  h.remirror();
  if (!last_survives) h.n_used_last = kPageKeys;  // the next key opens a page

  // Two pages' worth of holes: pack all keys together. The last page's free tail is no hole.
  const int64_t capacity = h.pages.empty() ? 0 : static_cast<int64_t>(h.pages.size() - 1) * kPageKeys + h.n_used_last;
  if (capacity - h.n_keys < 2 * kPageKeys) return;
  Head packed;
  for (const auto& page : h.pages) {
    for (int slot = 0; slot < kPageKeys; ++slot) {
      const int32_t position = page->positions[static_cast<size_t>(slot)];
      if (position == kNoPosition) continue;
      if (packed.pages.empty() || packed.n_used_last == kPageKeys) packed.push(new_page());
      Page& target = *packed.pages.back();
      kernels::page_copy(target.bytes, packed.n_used_last, page->bytes, slot, shape_.type, shape_.head_dim);
      target.positions[static_cast<size_t>(packed.n_used_last++)] = position;
    }
  }
  packed.n_keys = h.n_keys;
  packed.last_position = h.last_position;
  h = std::move(packed);
}

bool KvCache::merge_with_next(Head& h, size_t index) {
  if (index + 1 >= h.pages.size()) return false;
  const uint32_t here = live_slots(h.pages[index]->positions), next = live_slots(h.pages[index + 1]->positions);
  if (std::popcount(here) + std::popcount(next) > kPageKeys) return false;
  std::shared_ptr<Page> merged = new_page();
  int to = 0;
  for (const size_t from : {index, index + 1}) {
    for (int slot = 0; slot < kPageKeys; ++slot) {
      const int32_t position = h.pages[from]->positions[static_cast<size_t>(slot)];
      if (position == kNoPosition) continue;
      kernels::page_copy(merged->bytes, to, h.pages[from]->bytes, slot, shape_.type, shape_.head_dim);
      merged->positions[static_cast<size_t>(to++)] = position;
    }
  }
  if (index + 2 == h.pages.size()) h.n_used_last = to;
  h.pages[index] = std::move(merged);
  h.pages.erase(h.pages.begin() + static_cast<int64_t>(index) + 1);
  return true;
}

void KvCache::drop(SequenceId sequence, int layer, int kv_head, int32_t begin, int32_t end) {
  if (!has(sequence) || begin >= end) return;
  Head& h = head(sequence, layer, kv_head);
  // Pages are in order of position, and each holds a key: only those that reach into the range are looked at.
  const auto before = [begin](const std::shared_ptr<Page>& page) {
    return std::all_of(page->positions.begin(), page->positions.end(),
                       [begin](int32_t p) { return p < begin || p == kNoPosition; });
  };
  const auto past = [end](const std::shared_ptr<Page>& page) {
    return *std::min_element(page->positions.begin(), page->positions.end()) >= end;
  };
  const auto first =
      static_cast<size_t>(std::partition_point(h.pages.begin(), h.pages.end(), before) - h.pages.begin());
  std::vector<std::shared_ptr<Page>> left;
  size_t next = first;
  for (; next < h.pages.size() && !past(h.pages[next]); ++next) {
    const auto in_range = [&](int32_t p) { return p >= begin && p < end; };
    const auto& positions = h.pages[next]->positions;
    const auto n = static_cast<int>(std::count_if(positions.begin(), positions.end(), in_range));
    h.n_keys -= n;
    if (n == std::popcount(live_slots(h.pages[next]->positions))) continue;
    if (n > 0) {
      Page& page = writable(h, next);
      std::replace_if(page.positions.begin(), page.positions.end(), in_range, kNoPosition);
    }
    left.push_back(h.pages[next]);
  }
  if (next == first) return;
  const bool last_survives = next < h.pages.size() || (!left.empty() && left.back() == h.pages.back());
  if (!last_survives) h.n_used_last = kPageKeys;  // the next key opens a page
  const auto at =
      h.pages.erase(h.pages.begin() + static_cast<int64_t>(first), h.pages.begin() + static_cast<int64_t>(next));
  h.pages.insert(at, left.begin(), left.end());
  const size_t last_edge = first + left.size();
  for (size_t edge = first > 0 ? first - 1 : 0; edge <= last_edge;) {
    if (!merge_with_next(h, edge)) ++edge;
  }
  h.remirror();
}

void KvCache::truncate(SequenceId sequence, int32_t position) {
  if (!has(sequence)) return;
  for (int layer = 0; layer < shape_.n_layers; ++layer) {
    for (int kv_head = 0; kv_head < shape_.n_kv_heads; ++kv_head) {
      Head& h = head(sequence, layer, kv_head);
      // From the end: going back a few positions at depth costs little.
      const auto reaches = [position](int32_t p) { return p >= position && p != kNoPosition; };
      while (!h.pages.empty()) {
        const auto& positions = h.pages.back()->positions;
        const auto n = static_cast<int>(std::count_if(positions.begin(), positions.end(), reaches));
        const bool all = n == std::popcount(live_slots(positions));
        h.n_keys -= n;
        if (!all) {
          if (n > 0) {
            Page& page = writable(h, h.pages.size() - 1);
            std::replace_if(page.positions.begin(), page.positions.end(), reaches, kNoPosition);
          }
          break;
        }
        h.pages.pop_back();
        h.blocks.pop_back();
      }
      h.last_position = std::min(h.last_position, position - 1);
      // The dead tail of the last page can be written again, as a fresh prefill would.
      if (h.pages.empty()) continue;
      int used = kPageKeys;
      const auto& last = h.pages.back()->positions;
      while (used > 0 && last[static_cast<size_t>(used - 1)] == kNoPosition) --used;
      h.n_used_last = used;
    }
  }
}

KvCache::Tail KvCache::tail(SequenceId sequence, int layer, int kv_head) const {
  const Head* h = find_head(sequence, layer, kv_head);
  return h ? Tail{h->n_used_last, h->last_position} : Tail{};
}

void KvCache::put_pages(SequenceId sequence, int layer, int kv_head, size_t n_pages, const std::byte* pages,
                        const int32_t* positions, const Tail& tail) {
  Head& h = head(sequence, layer, kv_head);
  FOVEA_CHECK(h.pages.empty(), "kv cache: layer {} head {} has pages already", layer, kv_head);
  for (size_t i = 0; i < n_pages; ++i) {
    h.push(new_page());
    Page& page = *h.pages.back();
    std::memcpy(page.bytes, pages + i * page_bytes_, page_bytes_);
    std::copy_n(positions + i * kPageKeys, kPageKeys, page.positions.begin());
    h.n_keys += std::popcount(live_slots(page.positions));
  }
  h.n_used_last = tail.n_used_last;
  h.last_position = tail.last_position;
}

uint64_t KvCache::bytes(SequenceId sequence) const {
  const auto it = sequences_.find(sequence);
  if (it == sequences_.end()) return 0;
  uint64_t n = 0;
  for (const Head& h : it->second) n += h.pages.size();
  return n * page_bytes_;
}

uint64_t KvCache::bytes() const { return memory_->n_live.load() * page_bytes_; }

uint64_t KvCache::ideal_bytes(int64_t n_keys) const {
  return static_cast<uint64_t>((n_keys + kPageKeys - 1) / kPageKeys) * page_bytes_;
}

}  // namespace fovea::attention
