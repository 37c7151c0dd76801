#include "fovea/attention/kv_cache.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <set>
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

CacheShape CacheShape::of(const ModelShape& model, kernels::KvType type) {
  CacheShape shape{.layers = {}, .k_type = type, .v_type = type};
  for (int l = 0; l < model.n_layers; ++l) {
    const AttentionShape at = model.site(l);
    shape.layers.push_back({at.n_kv_heads, at.k_dim, at.v_dim});
  }
  return shape;
}

struct KvCache::Memory {
  Memory(const CacheShape& shape, const CacheShape::Layer& layer)
      : k_type(shape.k_type),
        v_type(shape.v_type),
        k_dim(layer.k_dim),
        v_dim(layer.v_dim),
        k_bytes(kernels::key_bytes(k_type, k_dim)),
        page_bytes(k_bytes + kernels::value_bytes(v_type, v_dim)),
        pages(page_bytes) {}
  const kernels::KvType k_type, v_type;
  const int k_dim, v_dim;
  const size_t k_bytes, page_bytes;  // keys come first
  PageMemory pages;
  std::atomic<uint64_t> n_live{0};
};

// The page's bytes and the positions beside them, so that a shared page carries both.
struct KvCache::Page {
  explicit Page(std::shared_ptr<Memory> from)
      : memory(std::move(from)), bytes(static_cast<std::byte*>(memory->pages.take())) {
    std::memset(bytes, 0, memory->page_bytes);  // a dead slot must not hold NaN: 0 * NaN would leak into z
    positions.fill(kNoPosition);
    ++memory->n_live;
  }
  ~Page() {
    memory->pages.give(bytes);
    --memory->n_live;
  }
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;

  void* keys() { return bytes; }
  void* values() { return bytes + memory->k_bytes; }
  kernels::KeyBlock block() { return {keys(), values(), positions.data()}; }
  void write(int slot, int32_t position, const float* k, const float* v) {
    kernels::key_write(keys(), memory->k_type, memory->k_dim, slot, k);
    kernels::value_write(values(), memory->v_type, memory->v_dim, slot, v);
    positions[static_cast<size_t>(slot)] = position;
  }
  void copy_slot(int to, Page& from, int slot) {
    kernels::key_copy(keys(), to, from.keys(), slot, memory->k_type, memory->k_dim);
    kernels::value_copy(values(), to, from.values(), slot, memory->v_type, memory->v_dim);
    positions[static_cast<size_t>(to)] = from.positions[static_cast<size_t>(slot)];
  }

  std::shared_ptr<Memory> memory;
  std::byte* bytes;
  std::array<int32_t, kPageKeys> positions;
};

struct KvCache::Head {
  int layer = 0;
  std::vector<std::shared_ptr<Page>> pages;
  std::vector<kernels::KeyBlock> blocks;  // mirrors `pages`
  int n_used_last = 0;                    // slots written in the last page, dead ones among them
  int64_t n_keys = 0;
  int32_t last_position = -1;

  void push(std::shared_ptr<Page> page) {
    blocks.push_back(page->block());
    pages.push_back(std::move(page));
    n_used_last = 0;
  }
  void remirror() {
    blocks.clear();
    for (const auto& page : pages) blocks.push_back(page->block());
  }
};

KvCache::KvCache(const CacheShape& shape) : shape_(shape), first_head_{0} {
  std::map<std::pair<int, int>, std::shared_ptr<Memory>> of_dims;
  for (const CacheShape::Layer& layer : shape.layers) {
    FOVEA_CHECK(layer.n_kv_heads > 0 && layer.k_dim > 0 && layer.v_dim > 0,
                "kv cache: {} KV heads with keys of {} and values of {} must all be positive", layer.n_kv_heads,
                layer.k_dim, layer.v_dim);
    std::shared_ptr<Memory>& memory = of_dims[{layer.k_dim, layer.v_dim}];
    if (!memory) memory = std::make_shared<Memory>(shape, layer);
    memory_.push_back(memory);
    first_head_.push_back(first_head_.back() + static_cast<size_t>(layer.n_kv_heads));
  }
  FOVEA_CHECK(!shape.layers.empty(), "kv cache: {} layers must be positive", shape.layers.size());
}

KvCache::~KvCache() = default;

void KvCache::create(SequenceId sequence) {
  Sequence& heads = sequences_[sequence];
  if (!heads.empty()) return;
  heads.resize(first_head_.back());
  for (int layer = 0; layer < shape_.n_layers(); ++layer) {
    for (int kv = 0; kv < shape_.layer(layer).n_kv_heads; ++kv) heads[index(layer, kv)].layer = layer;
  }
}

bool KvCache::has(SequenceId sequence) const { return sequences_.count(sequence) > 0; }

void KvCache::remove(SequenceId sequence) { sequences_.erase(sequence); }

void KvCache::fork(SequenceId from, SequenceId to) {
  const auto source = sequences_.find(from);
  FOVEA_CHECK(source != sequences_.end(), "kv cache: no sequence {} to fork", from);
  FOVEA_CHECK(!has(to), "kv cache: sequence {} exists already", to);
  sequences_.emplace(to, source->second);
}

size_t KvCache::index(int layer, int kv_head) const {
  FOVEA_CHECK(layer >= 0 && layer < shape_.n_layers() && kv_head >= 0 && kv_head < shape_.layer(layer).n_kv_heads,
              "kv cache: no head {} of layer {} in {} layers", kv_head, layer, shape_.n_layers());
  return first_head_[static_cast<size_t>(layer)] + static_cast<size_t>(kv_head);
}

KvCache::Head& KvCache::head(SequenceId sequence, int layer, int kv_head) {
  const size_t at = index(layer, kv_head);
  if (!has(sequence)) create(sequence);
  return sequences_.at(sequence)[at];
}

const KvCache::Head* KvCache::find_head(SequenceId sequence, int layer, int kv_head) const {
  const size_t at = index(layer, kv_head);
  const auto it = sequences_.find(sequence);
  return it == sequences_.end() ? nullptr : &it->second[at];
}

std::shared_ptr<KvCache::Page> KvCache::new_page(int layer) {
  return std::make_shared<Page>(memory_[static_cast<size_t>(layer)]);
}

KvCache::Page& KvCache::writable(Head& h, size_t index) {
  std::shared_ptr<Page>& page = h.pages[index];
  if (page.use_count() > 1) {
    std::shared_ptr<Page> copy = new_page(h.layer);
    std::memcpy(copy->bytes, page->bytes, copy->memory->page_bytes);
    copy->positions = page->positions;
    page = std::move(copy);
    h.blocks[index] = page->block();
  }
  return *page;
}

void KvCache::append(SequenceId sequence, int layer, int kv_head, int32_t position, const float* k, const float* v) {
  Head& h = head(sequence, layer, kv_head);
  FOVEA_CHECK(position > h.last_position && position < kNoPosition, "kv cache: position {} after {} does not rise",
              position, h.last_position);
  if (h.pages.empty() || h.n_used_last == kPageKeys) h.push(new_page(layer));
  Page& page = writable(h, h.pages.size() - 1);
  page.write(h.n_used_last++, position, k, v);
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
  packed.layer = layer;
  for (const auto& page : h.pages) {
    for (int slot = 0; slot < kPageKeys; ++slot) {
      const int32_t position = page->positions[static_cast<size_t>(slot)];
      if (position == kNoPosition) continue;
      if (packed.pages.empty() || packed.n_used_last == kPageKeys) packed.push(new_page(layer));
      packed.pages.back()->copy_slot(packed.n_used_last++, *page, slot);
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
  std::shared_ptr<Page> merged = new_page(h.layer);
  int to = 0;
  for (const size_t from : {index, index + 1}) {
    for (int slot = 0; slot < kPageKeys; ++slot) {
      const int32_t position = h.pages[from]->positions[static_cast<size_t>(slot)];
      if (position == kNoPosition) continue;
      merged->copy_slot(to++, *h.pages[from], slot);
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

void KvCache::truncate(Head& h, int32_t position) {
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
  if (h.pages.empty()) return;
  int used = kPageKeys;
  const auto& last = h.pages.back()->positions;
  while (used > 0 && last[static_cast<size_t>(used - 1)] == kNoPosition) --used;
  h.n_used_last = used;
}

void KvCache::truncate(SequenceId sequence, int layer, int32_t position) {
  if (!has(sequence)) return;
  for (int kv = 0; kv < shape_.layer(layer).n_kv_heads; ++kv) truncate(head(sequence, layer, kv), position);
}

void KvCache::truncate(SequenceId sequence, int32_t position) {
  for (int layer = 0; layer < shape_.n_layers(); ++layer) truncate(sequence, layer, position);
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
    h.push(new_page(layer));
    Page& page = *h.pages.back();
    std::memcpy(page.bytes, pages + i * page_bytes(layer), page_bytes(layer));
    std::copy_n(positions + i * kPageKeys, kPageKeys, page.positions.begin());
    h.n_keys += std::popcount(live_slots(page.positions));
  }
  h.n_used_last = tail.n_used_last;
  h.last_position = tail.last_position;
}

size_t KvCache::page_bytes(int layer) const { return memory_[static_cast<size_t>(layer)]->page_bytes; }

uint64_t KvCache::bytes(SequenceId sequence) const {
  const auto it = sequences_.find(sequence);
  if (it == sequences_.end()) return 0;
  uint64_t n = 0;
  for (const Head& h : it->second) n += h.pages.size() * page_bytes(h.layer);
  return n;
}

uint64_t KvCache::bytes() const {
  const std::set<std::shared_ptr<Memory>> all(memory_.begin(), memory_.end());
  uint64_t n = 0;
  for (const auto& memory : all) n += memory->n_live.load() * memory->page_bytes;
  return n;
}

uint64_t KvCache::ideal_bytes(int layer, int64_t n_keys) const {
  return static_cast<uint64_t>((n_keys + kPageKeys - 1) / kPageKeys) * page_bytes(layer);
}

}  // namespace fovea::attention
