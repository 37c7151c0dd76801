#include "fovea/attention/kv_cache.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>
#include <utility>

#include "fovea/attention/kv_page.h"
#include "fovea/base/check.h"

namespace fovea::attention {

using kernels::kNoPosition;
using kernels::kPageKeys;

std::string name_of(CacheTypes types) {
  std::string name(kernels::name_of(types.k));
  return types.k == types.v ? name : name + "/" + std::string(kernels::name_of(types.v));
}

CacheShape CacheShape::of(const ModelShape& model, CacheTypes types) {
  CacheShape shape{.layers = {}, .k_type = types.k, .v_type = types.v};
  for (int l = 0; l < model.n_layers; ++l) {
    const AttentionShape at = model.site(l);
    FOVEA_CHECK(at.n_kv_heads() > 0 && at.n_heads % at.n_kv_heads() == 0,
                "kv cache: layer {} has {} heads, no multiple of its {} key heads and {} value heads", l, at.n_heads,
                at.n_k_heads, at.n_v_heads);
    shape.layers.push_back({at.n_k_heads, at.n_v_heads, at.k_dim, at.v_dim});
  }
  return shape;
}

struct KvCache::Group {
  struct Head {
    std::vector<kernels::KeyBlock> blocks;  // of the pages in which it has a key
    int64_t n_keys = 0;
  };
  int layer = 0;
  std::vector<std::shared_ptr<KvPage>> pages;
  std::vector<Head> heads;
  int n_used_last = 0;  // slots written in the last page, dead ones among them
  int32_t last_position = -1;

  int n_heads() const { return static_cast<int>(heads.size()); }
  Head& head(int h) { return heads[static_cast<size_t>(h)]; }
  void remirror() {
    for (int h = 0; h < n_heads(); ++h) {
      head(h).blocks.clear();
      for (const auto& page : pages) {
        if (page->holds(h)) head(h).blocks.push_back(page->block(h));
      }
    }
  }
  // The live keys of all heads, a slot counted once.
  int64_t n_slots() const {
    int64_t n = 0;
    for (const auto& page : pages) n += std::popcount(page->live());
    return n;
  }
};

KvCache::KvCache(const CacheShape& shape) : shape_(shape), first_group_{0} {
  std::map<std::array<int, 4>, std::shared_ptr<KvPageMemory>> of_sizes;
  for (const CacheShape::Layer& layer : shape.layers) {
    FOVEA_CHECK(
        layer.n_groups() > 0 && layer.n_kv_heads() % layer.n_groups() == 0 && layer.k_dim > 0 && layer.v_dim > 0,
        "kv cache: {} key heads of {} and {} value heads of {} must all be positive, one a multiple of the "
        "other",
        layer.n_k_heads, layer.k_dim, layer.n_v_heads, layer.v_dim);
    const int n_groups = layer.n_groups();
    std::shared_ptr<KvPageMemory>& memory =
        of_sizes[{layer.n_k_heads / n_groups, layer.n_v_heads / n_groups, layer.k_dim, layer.v_dim}];
    if (!memory) memory = std::make_shared<KvPageMemory>(shape, layer);
    memory_.push_back(memory);
    first_group_.push_back(first_group_.back() + static_cast<size_t>(n_groups));
  }
  FOVEA_CHECK(!shape.layers.empty(), "kv cache: {} layers must be positive", shape.layers.size());
}

KvCache::~KvCache() = default;

void KvCache::create(SequenceId sequence) {
  if (has(sequence)) return;
  Sequence groups(first_group_.back());
  for (int layer = 0; layer < shape_.n_layers(); ++layer) {
    for (size_t g = first_group_[static_cast<size_t>(layer)]; g < first_group_[static_cast<size_t>(layer) + 1]; ++g) {
      groups[g] = std::make_shared<Group>();
      groups[g]->layer = layer;
      groups[g]->heads.resize(static_cast<size_t>(shape_.layer(layer).group_heads()));
    }
  }
  sequences_.emplace(sequence, std::move(groups));
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
  FOVEA_CHECK(layer >= 0 && layer < shape_.n_layers() && kv_head >= 0 && kv_head < shape_.layer(layer).n_kv_heads(),
              "kv cache: no head {} of layer {} in {} layers", kv_head, layer, shape_.n_layers());
  return first_group_[static_cast<size_t>(layer)] + static_cast<size_t>(kv_head / shape_.layer(layer).group_heads());
}

int KvCache::first_head(int layer, int group) const {
  FOVEA_CHECK(layer >= 0 && layer < shape_.n_layers(), "kv cache: no layer {} in {} layers", layer, shape_.n_layers());
  return group * shape_.layer(layer).group_heads();
}

KvCache::Group& KvCache::group_of(SequenceId sequence, int layer, int kv_head) {
  const size_t at = index(layer, kv_head);
  if (!has(sequence)) create(sequence);
  std::shared_ptr<Group>& group = sequences_.at(sequence)[at];
  if (group.use_count() > 1) group = std::make_shared<Group>(*group);
  return *group;
}

const KvCache::Group* KvCache::find_group(SequenceId sequence, int layer, int kv_head) const {
  const size_t at = index(layer, kv_head);
  const auto it = sequences_.find(sequence);
  return it == sequences_.end() ? nullptr : it->second[at].get();
}

std::shared_ptr<KvPage> KvCache::new_page(int layer) {
  return std::make_shared<KvPage>(memory_[static_cast<size_t>(layer)]);
}

// Of pages but the last, the mirrors of a page that was copied are the caller's to renew.
KvPage& KvCache::writable(Group& g, size_t index) {
  std::shared_ptr<KvPage>& page = g.pages[index];
  if (page.use_count() > 1) {
    std::shared_ptr<KvPage> copy = new_page(g.layer);
    copy->copy(*page);
    page = std::move(copy);
    for (int h = 0; h < g.n_heads() && index + 1 == g.pages.size(); ++h) {
      if (page->holds(h)) g.head(h).blocks.back() = page->block(h);
    }
  }
  return *page;
}

void KvCache::append(SequenceId sequence, int layer, int group, std::span<const int32_t> positions, const float* k,
                     int64_t k_step, const float* v, int64_t v_step) {
  Group& g = group_of(sequence, layer, first_head(layer, group));
  for (const int32_t position : positions) {
    FOVEA_CHECK(position > g.last_position && position < kNoPosition, "kv cache: position {} after {} does not rise",
                position, g.last_position);
    if (g.pages.empty() || g.n_used_last == kPageKeys) {
      g.pages.push_back(new_page(layer));
      g.n_used_last = 0;
    }
    KvPage& page = writable(g, g.pages.size() - 1);
    for (int h = 0; h < g.n_heads(); ++h) {
      if (page.holds(h)) continue;
      std::vector<kernels::KeyBlock>& blocks = g.head(h).blocks;
      if (blocks.size() == blocks.capacity()) blocks.reserve(2 * blocks.size() + 1);
      page.open(h);  // behind what may fail: truncate() takes a page that is open for one with a block
      blocks.push_back(page.block(h));
    }
    for (int h = 0; h < g.n_heads(); ++h) ++g.head(h).n_keys;
    page.write(g.n_used_last++, position, k, v);
    g.last_position = position;
    k += k_step, v += v_step;
  }
}

std::span<const kernels::KeyBlock> KvCache::blocks(SequenceId sequence, int layer, int kv_head) const {
  const Group* g = find_group(sequence, layer, kv_head);
  return g ? std::span<const kernels::KeyBlock>(g->heads[static_cast<size_t>(in_group(layer, kv_head))].blocks)
           : std::span<const kernels::KeyBlock>();
}

std::vector<int32_t> KvCache::positions(SequenceId sequence, int layer, int kv_head) const {
  std::vector<int32_t> live;
  for (const kernels::KeyBlock& block : blocks(sequence, layer, kv_head)) {
    std::copy_if(block.positions, block.positions + kPageKeys, std::back_inserter(live),
                 [](int32_t p) { return p != kNoPosition; });
  }
  return live;
}

int64_t KvCache::n_keys(SequenceId sequence, int layer, int kv_head) const {
  const Group* g = find_group(sequence, layer, kv_head);
  return g ? g->heads[static_cast<size_t>(in_group(layer, kv_head))].n_keys : 0;
}

void KvCache::retain(SequenceId sequence, int layer, int kv_head, const std::function<bool(int32_t position)>& keep) {
  if (!has(sequence)) return;
  Group& g = group_of(sequence, layer, kv_head);
  const int h = in_group(layer, kv_head);
  std::vector<std::shared_ptr<KvPage>> kept_pages;
  g.head(h).n_keys = 0;
  for (size_t i = 0; i < g.pages.size(); ++i) {
    const uint32_t live = g.pages[i]->live(h);
    uint32_t kept = 0;
    for (int slot = 0; slot < kPageKeys; ++slot) {
      if ((live >> slot & 1u) && keep(g.pages[i]->at(h, slot))) kept |= 1u << slot;
    }
    if ((kept | g.pages[i]->live_beside(h)) == 0) continue;
    if (kept != live) writable(g, i).drop(h, live & ~kept);
    g.head(h).n_keys += std::popcount(kept);
    kept_pages.push_back(g.pages[i]);
  }
  const bool last_survives = !kept_pages.empty() && kept_pages.back() == g.pages.back();
  g.pages = std::move(kept_pages);
  if (!last_survives) g.n_used_last = kPageKeys;  // the next key opens a page

  // Two pages' worth of holes: pack all keys together. The last page's free tail is no hole.
  const int64_t capacity = g.pages.empty() ? 0 : static_cast<int64_t>(g.pages.size() - 1) * kPageKeys + g.n_used_last;
  if (capacity - g.n_slots() >= 2 * kPageKeys) {
    std::vector<std::shared_ptr<KvPage>> packed;
    for (const auto& page : g.pages) {
      for (int slot = 0; slot < kPageKeys; ++slot) {
        if (page->at(slot) == kNoPosition) continue;
        if (packed.empty() || g.n_used_last == kPageKeys) {
          packed.push_back(new_page(layer));
          g.n_used_last = 0;
        }
        packed.back()->copy_slot(g.n_used_last++, *page, slot);
      }
    }
    g.pages = std::move(packed);
  }
  g.remirror();
}

bool KvCache::merge_with_next(Group& g, size_t index) {
  if (index + 1 >= g.pages.size()) return false;
  if (std::popcount(g.pages[index]->live()) + std::popcount(g.pages[index + 1]->live()) > kPageKeys) return false;
  std::shared_ptr<KvPage> merged = new_page(g.layer);
  int to = 0;
  for (const size_t from : {index, index + 1}) {
    for (int slot = 0; slot < kPageKeys; ++slot) {
      if (g.pages[from]->at(slot) != kNoPosition) merged->copy_slot(to++, *g.pages[from], slot);
    }
  }
  if (index + 2 == g.pages.size()) g.n_used_last = to;
  g.pages[index] = std::move(merged);
  g.pages.erase(g.pages.begin() + static_cast<int64_t>(index) + 1);
  return true;
}

void KvCache::drop(SequenceId sequence, int layer, int kv_head, int32_t begin, int32_t end) {
  if (!has(sequence) || begin >= end) return;
  Group& g = group_of(sequence, layer, kv_head);
  const int h = in_group(layer, kv_head);
  // Pages are in order of position, and each holds a key: only those that reach into the range are looked at.
  const auto before = [begin](const std::shared_ptr<KvPage>& page) {
    for (int slot = 0; slot < kPageKeys; ++slot) {
      if (page->at(slot) >= begin && page->at(slot) != kNoPosition) return false;
    }
    return true;
  };
  const auto past = [end](const std::shared_ptr<KvPage>& page) {
    for (int slot = 0; slot < kPageKeys; ++slot) {
      if (page->at(slot) < end) return false;
    }
    return true;
  };
  const auto first =
      static_cast<size_t>(std::partition_point(g.pages.begin(), g.pages.end(), before) - g.pages.begin());
  std::vector<std::shared_ptr<KvPage>> left;
  size_t next = first;
  for (; next < g.pages.size() && !past(g.pages[next]); ++next) {
    const uint32_t gone = g.pages[next]->live_within(h, begin, end);
    g.head(h).n_keys -= std::popcount(gone);
    if (((g.pages[next]->live(h) & ~gone) | g.pages[next]->live_beside(h)) == 0) continue;
    if (gone != 0) writable(g, next).drop(h, gone);
    left.push_back(g.pages[next]);
  }
  if (next == first) return;
  const bool last_survives = next < g.pages.size() || (!left.empty() && left.back() == g.pages.back());
  if (!last_survives) g.n_used_last = kPageKeys;  // the next key opens a page
  const auto at =
      g.pages.erase(g.pages.begin() + static_cast<int64_t>(first), g.pages.begin() + static_cast<int64_t>(next));
  g.pages.insert(at, left.begin(), left.end());
  const size_t last_edge = first + left.size();
  for (size_t edge = first > 0 ? first - 1 : 0; edge <= last_edge;) {
    if (!merge_with_next(g, edge)) ++edge;
  }
  g.remirror();
}

void KvCache::truncate(Group& g, int32_t position) {
  // From the end: going back a few positions at depth costs little.
  while (!g.pages.empty()) {
    const KvPage& last = *g.pages.back();
    uint32_t all_gone = 0;
    for (int h = 0; h < g.n_heads(); ++h) {
      const uint32_t gone = last.live_within(h, position, kNoPosition);
      g.head(h).n_keys -= std::popcount(gone);
      all_gone |= gone;
    }
    const bool whole = all_gone == last.live();
    if (!whole && all_gone == 0) break;
    KvPage* cut = whole ? nullptr : &writable(g, g.pages.size() - 1);
    for (int h = 0; h < g.n_heads(); ++h) {
      if (!g.pages.back()->holds(h)) continue;
      if (cut) cut->drop(h, all_gone);
      if (whole || !cut->holds(h)) g.head(h).blocks.pop_back();
    }
    if (!whole) break;
    g.pages.pop_back();
  }
  g.last_position = std::min(g.last_position, position - 1);
  // The dead tail of the last page can be written again, as a fresh prefill would.
  if (g.pages.empty()) return;
  g.n_used_last = kPageKeys - std::countl_zero(g.pages.back()->live());
}

void KvCache::truncate(SequenceId sequence, int layer, int32_t position) {
  if (!has(sequence)) return;
  for (int group = 0; group < shape_.layer(layer).n_groups(); ++group)
    truncate(group_of(sequence, layer, first_head(layer, group)), position);
}

void KvCache::truncate(SequenceId sequence, int32_t position) {
  for (int layer = 0; layer < shape_.n_layers(); ++layer) truncate(sequence, layer, position);
}

std::vector<KvCache::PageView> KvCache::pages(SequenceId sequence, int layer, int group) const {
  std::vector<PageView> views;
  const Group* g = find_group(sequence, layer, first_head(layer, group));
  for (size_t i = 0; g && i < g->pages.size(); ++i) {
    const KvPage& page = *g->pages[i];
    PageView view;
    if (page.shared) view.blocks.emplace_back(page.shared, page.memory->shared_bytes);
    for (int h = 0; h < g->n_heads(); ++h) {
      view.positions.emplace_back(page.head(h).positions);
      if (page.holds(h)) view.blocks.emplace_back(page.head(h).bytes, page.memory->own_bytes);
    }
    views.push_back(std::move(view));
  }
  return views;
}

KvCache::Tail KvCache::tail(SequenceId sequence, int layer, int group) const {
  const Group* g = find_group(sequence, layer, first_head(layer, group));
  return g ? Tail{g->n_used_last, g->last_position} : Tail{};
}

void KvCache::put_pages(SequenceId sequence, int layer, int group, size_t n_pages, const std::byte* blocks,
                        const int32_t* positions, const Tail& tail) {
  Group& g = group_of(sequence, layer, first_head(layer, group));
  FOVEA_CHECK(g.pages.empty(), "kv cache: layer {} group {} has pages already", layer, group);
  const auto take = [&blocks](std::byte* to, size_t bytes) {
    std::memcpy(to, blocks, bytes);
    blocks += bytes;
  };
  for (size_t i = 0; i < n_pages; ++i) {
    g.pages.push_back(new_page(layer));
    KvPage& page = *g.pages.back();
    if (page.shared) take(page.shared, page.memory->shared_bytes);
    for (int h = 0; h < g.n_heads(); ++h, positions += kPageKeys) {
      std::copy_n(positions, kPageKeys, page.head(h).positions.begin());
      const uint32_t live = page.live(h);
      if (live == 0) continue;
      page.open(h);
      take(page.head(h).bytes, page.memory->own_bytes);
      g.head(h).n_keys += std::popcount(live);
    }
  }
  g.remirror();
  g.n_used_last = tail.n_used_last;
  g.last_position = tail.last_position;
}

size_t KvCache::page_bytes(int layer, int n_heads) const {
  const KvPageMemory& memory = *memory_[static_cast<size_t>(layer)];
  return memory.shared_bytes + static_cast<size_t>(n_heads) * memory.own_bytes;
}

uint64_t KvCache::bytes(SequenceId sequence) const {
  const auto it = sequences_.find(sequence);
  if (it == sequences_.end()) return 0;
  uint64_t n = 0;
  for (const auto& group : it->second) {
    for (const auto& page : group->pages) n += page->bytes();
  }
  return n;
}

uint64_t KvCache::bytes() const {
  const std::set<std::shared_ptr<KvPageMemory>> all(memory_.begin(), memory_.end());
  uint64_t n = 0;
  for (const auto& memory : all) n += memory->n_bytes.load();
  return n;
}

uint64_t KvCache::ideal_bytes(int layer, int64_t n_keys) const {
  const KvPageMemory& memory = *memory_[static_cast<size_t>(layer)];
  const auto n_heads = static_cast<size_t>(memory.n_heads);
  return static_cast<uint64_t>((n_keys + kPageKeys - 1) / kPageKeys) *
         (memory.own_bytes + (memory.shared_bytes + n_heads - 1) / n_heads);
}

}  // namespace fovea::attention
