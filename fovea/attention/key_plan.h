// Which pages of each KV head the rows of one call read. Untouched, every row reads all pages that its head's rule lets
// through; a method may give a tile of rows another list of pages, masks of single keys, or several parts.
//
// Each part is a softmax of its own with a log-sum-exp; the parts of a row are joined by weights, by default those
// that make the whole one softmax. Where a page stands in its head's list decides with which others it is summed, so
// that leaving a page out changes no bit of what the rest gives.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fovea/base/threads.h"
#include "fovea/kernels/attention.h"

namespace fovea::attention {

using kernels::KeyBlock;
using kernels::KeyRule;

// Keys are cut into segments of the page list whose partial results are joined in order: decode can
// then use more threads than there are KV heads. Prefill makes the same cut, for the same bits.
inline constexpr int32_t kSegmentPages = 32;

class KeyPlan {
 public:
  static constexpr int64_t kTileQueries = 64;
  static constexpr int kAllHeads = -1;
  static constexpr size_t kMasks = 32;

  struct Page {
    int32_t index;             // of the head's pages, or of one that a method added
    uint32_t* bits = nullptr;  // [group, n] bits of keys that a row may see; null: all. See mask().
  };
  struct Part {
    std::vector<Page> pages;     // rising
    std::vector<KeyRule> rules;  // [group]; no wider than those of the plan
    int head = kAllHeads;        // the one query head of the group (0..) that reads it
    int turn = 0;                // how q is turned for it: turn(); 0: by its position in the text
    float bias = 0;              // added to its scores, behind scale and soft cap; so it is in the log-sum-exp
    // By which a method that joins knows the parts it made again: addresses of its own. Copies of the part keep them.
    std::vector<const void*> marks = {};
    bool has(const void* mark) const { return std::find(marks.begin(), marks.end(), mark) != marks.end(); }
  };
  struct Tile {
    int64_t first, n;         // rows of the call
    std::vector<Part> parts;  // none: untouched
   private:
    friend class KeyPlan;
    uint32_t* new_mask(int group);  // all ones
    struct Masks {
      std::vector<std::unique_ptr<uint32_t[]>> blocks;  // of kMasks pages each, kept from call to call
      size_t words = 0;                                 // of a mask
    } masks;
    size_t n_masks = 0, n_looked_through = 0;  // given; of them, by drop_idle_masks
  };

  // For the rows at `positions` and the pages of each KV head, which all start with `rule`.
  void begin(std::span<const int32_t> positions, int n_kv_heads, int group, KeyRule rule);
  // How all pages of the call hold keys and values.
  struct Layout {
    kernels::KvType k_type = kernels::KvType::kF32, v_type = kernels::KvType::kF32;
    int k_dim = 0, v_dim = 0;  // multiples of 8
  };
  void set_layout(const Layout& layout) { layout_ = layout; }
  const Layout& layout() const { return layout_; }
  void set_pages(int kv_head, std::span<const KeyBlock> pages) { heads_[static_cast<size_t>(kv_head)].pages = pages; }

  int n_kv_heads() const { return n_heads_; }
  int group() const { return group_; }
  std::span<const int32_t> positions() const { return positions_; }  // of the rows
  std::span<const KeyBlock> pages(int kv_head) const { return heads_[static_cast<size_t>(kv_head)].pages; }
  const std::vector<KeyRule>& rules(int kv_head) const { return heads_[static_cast<size_t>(kv_head)].rules; }
  // The key in a slot, turned by the position it was cached at, or the value: the first k.size() of its numbers, with
  // the rounding that attention sees. Not of a slot at kNoPosition.
  void read_key(const KeyBlock& page, int slot, std::span<float> k) const;
  void read_value(const KeyBlock& page, int slot, std::span<float> v) const;

  // A page that a method has made (OwnPage), beside those of the cache -> its index for the parts that read it. Its
  // keys are as far as rules, masks and observers go at the positions it says, in any order. The caller keeps it until
  // the call is over; heads may add theirs in parallel. There is no gradient through one.
  int32_t add_page(int kv_head, const KeyBlock& page);
  std::span<const KeyBlock> added(int kv_head) const { return heads_[static_cast<size_t>(kv_head)].added; }
  int32_t first_added(int kv_head) const;  // their indices start here
  const KeyBlock& page(int kv_head, int32_t index) const {
    const Head& head = heads_[static_cast<size_t>(kv_head)];
    const auto at = static_cast<size_t>(index);
    return at < head.pages.size() ? head.pages[at] : head.added[at - static_cast<size_t>(first_added(kv_head))];
  }
  // Narrows the rule of a query head. Where neither rule holds the other, masks say what both let through.
  void narrow(int kv_head, int g, const KeyRule& rule);

  // Rows are cut into tiles, for all heads alike; one more cut before `row`: of a tile that was edited, both keep its
  // parts.
  void cut(int64_t row);
  int n_tiles() const { return static_cast<int>(cuts_.size()) - 1; }
  bool touched(int kv_head) const { return heads_[static_cast<size_t>(kv_head)].touched; }
  Tile& tile(int kv_head, int t);
  // edit(kv_head, tile) for every tile of every head, from several threads; masks that hide nothing are let go at once.
  void edit_tiles(FunctionRef<void(int kv_head, Tile& tile)> edit);
  const Tile& tile(int kv_head, int t) const {
    return heads_[static_cast<size_t>(kv_head)].tiles[static_cast<size_t>(t)];
  }
  int64_t first_row(int t) const { return cuts_[static_cast<size_t>(t)]; }
  int64_t n_rows(int t) const { return first_row(t + 1) - first_row(t); }
  // The mask of a page of the tile, all ones until it is edited.
  std::span<uint32_t> mask(Tile& tile, Page& page) const;
  // The same of a page that was copied into another part, which shares the mask until then: one of its own, a copy.
  std::span<uint32_t> own_mask(Tile& tile, Page& page) const;

  // Lets go of the masks that hide nothing, so that their pages are read like those without.
  void drop_idle_masks();

  // A turn of q as if row i stood at positions[i] -> its number. The keys stay as they are.
  int turn(std::vector<int32_t> positions);
  std::span<const std::vector<int32_t>> turns() const { return turns_; }  // turn i is at i - 1

 private:
  struct Head {
    std::span<const KeyBlock> pages;
    std::vector<KeyBlock> added;
    std::vector<KeyRule> rules;
    std::vector<Tile> tiles;
    bool touched = false;
  };
  void open(Head& head);
  bool drop_idle_masks(Tile& tile) const;  // whether none is left
  Tile rows_of(const Tile& tile, int64_t begin, int64_t end) const;

  std::span<const int32_t> positions_;
  Layout layout_;
  int n_heads_ = 0, group_ = 1;
  std::vector<Head> heads_;               // those of earlier calls too, for their memory
  std::vector<Tile::Masks> spare_masks_;  // of each thread: near, where one tile after the other needs none in the end
  std::vector<int64_t> cuts_;
  std::vector<std::vector<int32_t>> turns_;
};

const int32_t* no_positions();  // of a page without keys: kernels::kPageKeys times kNoPosition

// The keys of a page that a row at q_pos sees by a rule, as bits; dead slots see nothing.
uint32_t seen_slots(const KeyRule& rule, int32_t q_pos, const KeyBlock& page);

}  // namespace fovea::attention
