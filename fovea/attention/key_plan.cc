#include "fovea/attention/key_plan.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/kernels/vector.h"

namespace fovea::attention {
namespace {

using kernels::kNoPosition;
using kernels::kPageKeys;

bool is_inside(const KeyRule& a, const KeyRule& b) {
  return a.ahead <= b.ahead && (b.window == KeyRule().window || (a.n_sink <= b.n_sink && a.window <= b.window));
}

bool sees(const KeyRule& rule, int32_t q_pos, int32_t key) {
  return key != kNoPosition && int64_t{key} <= int64_t{q_pos} + rule.ahead &&
         (key < rule.n_sink || int64_t{key} > int64_t{q_pos} - rule.window);
}

constexpr size_t kWidest = 256;

}  // namespace

const int32_t* no_positions() {
  static const std::array<int32_t, kPageKeys> kDead = [] {
    std::array<int32_t, kPageKeys> positions;
    positions.fill(kNoPosition);
    return positions;
  }();
  return kDead.data();
}

uint32_t seen_slots(const KeyRule& rule, int32_t q_pos, const KeyBlock& page) {
  uint32_t bits = 0;
  for (int slot = 0; slot < kPageKeys; ++slot)
    bits |= static_cast<uint32_t>(sees(rule, q_pos, page.positions[slot])) << slot;
  return bits;
}

void KeyPlan::begin(std::span<const int32_t> positions, int n_kv_heads, int group, KeyRule rule) {
  positions_ = positions;
  n_heads_ = n_kv_heads;
  group_ = group;
  if (heads_.size() < static_cast<size_t>(n_kv_heads)) heads_.resize(static_cast<size_t>(n_kv_heads));
  for (int kv = 0; kv < n_kv_heads; ++kv) {
    Head& head = heads_[static_cast<size_t>(kv)];
    head.rules.assign(static_cast<size_t>(group), rule);
    head.touched = false;
    head.added.clear();
    for (Tile& tile : head.tiles) tile.parts.clear(), tile.n_masks = tile.n_looked_through = 0;
  }
  cuts_.clear();
  const auto n = static_cast<int64_t>(positions.size());
  for (int64_t row = 0; row < n; row += kTileQueries) cuts_.push_back(row);
  cuts_.push_back(n);
  turns_.clear();
}

void KeyPlan::read_key(const KeyBlock& page, int slot, std::span<float> k) const {
  FOVEA_CHECK(k.size() <= static_cast<size_t>(layout_.k_dim), "read_key: {} numbers of a key of {}", k.size(),
              layout_.k_dim);
  float whole[kWidest];
  kernels::key_read(page.k, layout_.k_type, layout_.k_dim, slot, whole);
  std::copy_n(whole, k.size(), k.begin());
}
void KeyPlan::read_value(const KeyBlock& page, int slot, std::span<float> v) const {
  FOVEA_CHECK(v.size() <= static_cast<size_t>(layout_.v_dim), "read_value: {} numbers of a value of {}", v.size(),
              layout_.v_dim);
  float whole[kWidest];
  kernels::value_read(page.v, layout_.v_type, layout_.v_dim, slot, whole);
  std::copy_n(whole, v.size(), v.begin());
}

// Behind the end of the last segment, so that they share none of the sums of what is cached.
int32_t KeyPlan::first_added(int kv_head) const {
  const auto n = static_cast<int32_t>(heads_[static_cast<size_t>(kv_head)].pages.size());
  return (n + kSegmentPages - 1) / kSegmentPages * kSegmentPages;
}

int32_t KeyPlan::add_page(int kv_head, const KeyBlock& page) {
  std::vector<KeyBlock>& added = heads_[static_cast<size_t>(kv_head)].added;
  added.push_back(page);
  return first_added(kv_head) + static_cast<int32_t>(added.size()) - 1;
}

void KeyPlan::cut(int64_t row) {
  const auto at = std::lower_bound(cuts_.begin(), cuts_.end(), row);
  if (row <= 0 || at == cuts_.end() || *at == row) return;
  const auto before = static_cast<size_t>(at - cuts_.begin()) - 1;  // the tile that holds the row
  for (int kv = 0; kv < n_heads_; ++kv) {
    Head& head = heads_[static_cast<size_t>(kv)];
    if (!head.touched) continue;
    std::vector<Tile> tiles;
    tiles.reserve(head.tiles.size() + 1);
    for (size_t t = 0; t < head.tiles.size(); ++t) {
      Tile& tile = head.tiles[t];
      if (t != before) {
        tiles.push_back(std::move(tile));
        continue;
      }
      tiles.push_back(rows_of(tile, 0, row - tile.first));
      tiles.push_back(rows_of(tile, row - tile.first, tile.n));
    }
    head.tiles = std::move(tiles);
  }
  cuts_.insert(at, row);
}

KeyPlan::Tile KeyPlan::rows_of(const Tile& tile, int64_t begin, int64_t end) const {
  Tile out;
  out.first = tile.first + begin;
  out.n = end - begin;
  out.parts = tile.parts;
  for (Part& part : out.parts) {
    for (Page& page : part.pages) {
      if (!page.bits) continue;
      uint32_t* bits = out.new_mask(group_);
      for (int g = 0; g < group_; ++g) {
        const uint32_t* from = page.bits + g * tile.n;
        std::copy(from + begin, from + end, bits + g * out.n);
      }
      page.bits = bits;
    }
  }
  return out;
}

// The lists start with every page that a row may look at.
void KeyPlan::open(Head& head) {
  head.touched = true;
  head.tiles.resize(static_cast<size_t>(n_tiles()));
  int32_t ahead = 0;
  for (const KeyRule& rule : head.rules) ahead = std::max(ahead, rule.ahead);
  int32_t n_pages = 0;  // tiles rise, and so do pages
  for (int t = 0; t < n_tiles(); ++t) {
    Tile& tile = head.tiles[static_cast<size_t>(t)];
    tile.first = first_row(t);
    tile.n = n_rows(t);
    const int64_t last = int64_t{positions_[static_cast<size_t>(tile.first + tile.n - 1)]} + ahead;
    for (; n_pages < static_cast<int32_t>(head.pages.size()); ++n_pages) {
      const int32_t* at = head.pages[static_cast<size_t>(n_pages)].positions;
      if (*std::min_element(at, at + kPageKeys) > last) break;
    }
    Part whole;
    whole.rules = head.rules;
    whole.pages.reserve(static_cast<size_t>(n_pages));
    for (int32_t page = 0; page < n_pages; ++page) whole.pages.push_back({page});
    tile.parts.push_back(std::move(whole));
  }
}

KeyPlan::Tile& KeyPlan::tile(int kv_head, int t) {
  Head& head = heads_[static_cast<size_t>(kv_head)];
  if (!head.touched) open(head);
  return head.tiles[static_cast<size_t>(t)];
}

void KeyPlan::edit_tiles(FunctionRef<void(int kv_head, Tile& tile)> edit) {
  for (int kv = 0; kv < n_heads_; ++kv) {
    if (!touched(kv)) open(heads_[static_cast<size_t>(kv)]);
  }
  spare_masks_.resize(static_cast<size_t>(pool().size()));
  pool().for_each(int64_t{n_heads_} * n_tiles(), [&](int64_t index, int thread) {
    const auto kv = static_cast<int>(index / n_tiles());
    Tile& tile = heads_[static_cast<size_t>(kv)].tiles[static_cast<size_t>(index % n_tiles())];
    Tile::Masks& spare = spare_masks_[static_cast<size_t>(thread)];
    const bool borrows = tile.n_masks == 0;
    if (borrows) std::swap(tile.masks, spare);
    edit(kv, tile);
    if (drop_idle_masks(tile) && borrows) std::swap(tile.masks, spare);
  });
}

uint32_t* KeyPlan::Tile::new_mask(int group) {
  const auto words = static_cast<size_t>(group) * kTileQueries;
  if (words != masks.words) masks.blocks.clear(), masks.words = words;
  const size_t block = n_masks / kMasks;
  if (block == masks.blocks.size()) masks.blocks.push_back(std::make_unique_for_overwrite<uint32_t[]>(kMasks * words));
  uint32_t* mask = masks.blocks[block].get() + n_masks++ % kMasks * words;
  std::fill_n(mask, static_cast<size_t>(group * n), ~uint32_t{0});
  return mask;
}

std::span<uint32_t> KeyPlan::mask(Tile& tile, Page& page) const {
  if (!page.bits) page.bits = tile.new_mask(group_);
  return {page.bits, static_cast<size_t>(group_ * tile.n)};
}

std::span<uint32_t> KeyPlan::own_mask(Tile& tile, Page& page) const {
  const uint32_t* shared = page.bits;
  page.bits = nullptr;
  const std::span<uint32_t> bits = mask(tile, page);
  if (shared) std::copy_n(shared, bits.size(), bits.begin());
  return bits;
}

bool KeyPlan::drop_idle_masks(Tile& tile) const {
  if (tile.n_looked_through == tile.n_masks) return tile.n_masks == 0;
  const int64_t n = group_ * tile.n;
  bool any = false;
  for (Part& part : tile.parts) {
    for (Page& page : part.pages) {
      if (page.bits && kernels::count_bits(page.bits, n) == static_cast<uint64_t>(32 * n)) page.bits = nullptr;
      any = any || page.bits;
    }
  }
  if (!any) tile.n_masks = 0;
  tile.n_looked_through = tile.n_masks;
  return !any;
}

void KeyPlan::drop_idle_masks() {
  size_t n_masks = 0;
  for (int kv = 0; kv < n_heads_; ++kv) {
    const Head& head = heads_[static_cast<size_t>(kv)];
    for (int t = 0; head.touched && t < n_tiles(); ++t) {
      const Tile& tile = head.tiles[static_cast<size_t>(t)];
      n_masks += tile.n_masks - tile.n_looked_through;
    }
  }
  if (n_masks == 0) return;
  const auto drop = [this](int64_t index, int) {
    Head& head = heads_[static_cast<size_t>(index / n_tiles())];
    if (head.touched) drop_idle_masks(head.tiles[static_cast<size_t>(index % n_tiles())]);
  };
  const int64_t n_tasks = int64_t{n_heads_} * n_tiles();
  if (n_masks > 64) return pool().for_each(n_tasks, drop);  // fewer are not worth a barrier
  for (int64_t i = 0; i < n_tasks; ++i) drop(i, 0);
}

void KeyPlan::narrow(int kv_head, int g, const KeyRule& rule) {
  Head& head = heads_[static_cast<size_t>(kv_head)];
  KeyRule& current = head.rules[static_cast<size_t>(g)];
  const bool inside = is_inside(rule, current);
  if (!inside && is_inside(current, rule)) return;
  if (inside && !head.touched) {
    current = rule;
    return;
  }
  for (int t = 0; t < n_tiles(); ++t) {
    Tile& tile = this->tile(kv_head, t);
    for (Part& part : tile.parts) {
      if (part.head != kAllHeads && part.head != g) continue;
      KeyRule& mine = part.rules[static_cast<size_t>(g)];
      if (is_inside(rule, mine)) {
        mine = rule;
        continue;
      }
      if (is_inside(mine, rule)) continue;
      for (Page& page : part.pages) {
        const KeyBlock& keys = this->page(kv_head, page.index);
        for (int64_t i = 0; i < tile.n; ++i) {
          const uint32_t seen = seen_slots(rule, positions_[static_cast<size_t>(tile.first + i)], keys);
          if (seen != ~uint32_t{0} || page.bits) mask(tile, page)[static_cast<size_t>(g * tile.n + i)] &= seen;
        }
      }
    }
  }
}

int KeyPlan::turn(std::vector<int32_t> positions) {
  FOVEA_CHECK(positions.size() == positions_.size(), "key plan: {} positions turn {} rows", positions.size(),
              positions_.size());
  const auto known = std::find(turns_.begin(), turns_.end(), positions);
  if (known == turns_.end()) {
    turns_.push_back(std::move(positions));
    return static_cast<int>(turns_.size());
  }
  return static_cast<int>(known - turns_.begin()) + 1;
}

}  // namespace fovea::attention
