// The key-value cache: paged, and ragged per (layer, KV head). Each such head of each sequence has
// its own list of pages and the stored position of every key, so that dropping one head's history
// frees its bytes. Pages are shared between forked sequences and copied on the first write.
//
// Where a layer has fewer key heads than value heads, or fewer value heads, a KV head is one of the side that has more,
// and neighbours that share the other side are a group: what they share lies in memory once, and goes with
// the last of them that drops it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "fovea/attention/batch.h"
#include "fovea/attention/shape.h"
#include "fovea/base/result.h"
#include "fovea/kernels/attention.h"

namespace fovea::attention {

// How keys and values are kept: f32 goes with f32 only.
struct CacheTypes {
  kernels::KvType k, v;
  CacheTypes(kernels::KvType both) : k(both), v(both) {}  // NOLINT(google-explicit-constructor)
  CacheTypes(kernels::KvType keys, kernels::KvType values) : k(keys), v(values) {}
  bool operator==(const CacheTypes&) const = default;
};
std::string name_of(CacheTypes types);  // "i16", or of two "q8_0/i16"

struct CacheShape {
  struct Layer {
    int n_k_heads = 0, n_v_heads = 0;  // one divides the other
    int k_dim = 0, v_dim = 0;
    bool operator==(const Layer&) const = default;
    int n_kv_heads() const { return std::max(n_k_heads, n_v_heads); }
    int n_groups() const { return std::min(n_k_heads, n_v_heads); }
    int group_heads() const { return n_kv_heads() / n_groups(); }  // KV heads of a group
  };
  std::vector<Layer> layers;
  kernels::KvType k_type = kernels::KvType::kI16, v_type = kernels::KvType::kI16;

  static CacheShape uniform(int n_layers, int n_kv_heads, int head_dim, kernels::KvType type) {
    return {std::vector<Layer>(static_cast<size_t>(n_layers), {n_kv_heads, n_kv_heads, head_dim, head_dim}), type,
            type};
  }
  static CacheShape of(const ModelShape& model, CacheTypes types);
  CacheTypes types() const { return {k_type, v_type}; }
  int n_layers() const { return static_cast<int>(layers.size()); }
  const Layer& layer(int l) const { return layers[static_cast<size_t>(l)]; }
  bool operator==(const CacheShape&) const = default;
};

struct KvPage;  // kv_page.h
struct KvPageMemory;

class KvCache {
 public:
  explicit KvCache(const CacheShape& shape);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  const CacheShape& shape() const { return shape_; }

  // A sequence exists from its first append or fork until it is removed.
  bool has(SequenceId sequence) const;
  void remove(SequenceId sequence);
  // `to` becomes a copy of `from` that shares its lists, and every page once a list was written. `to` must not exist.
  void fork(SequenceId from, SequenceId to);

  // Adds the keys and values of a group at each position: k_dim floats of each of its key heads, v_dim of each of its
  // value heads; those of the next position lie k_step and v_step floats on. Positions rise.
  void append(SequenceId sequence, int layer, int group, std::span<const int32_t> positions, const float* k,
              int64_t k_step, const float* v, int64_t v_step);
  void append(SequenceId sequence, int layer, int group, int32_t position, const float* k, const float* v) {
    append(sequence, layer, group, {&position, 1}, k, 0, v, 0);
  }
  // A sequence without keys, so that its groups can be appended to from several threads at once.
  void create(SequenceId sequence);

  // The head's pages in order of position; valid until the next change of that head.
  std::span<const kernels::KeyBlock> blocks(SequenceId sequence, int layer, int kv_head) const;
  // The live positions, rising.
  std::vector<int32_t> positions(SequenceId sequence, int layer, int kv_head) const;
  int64_t n_keys(SequenceId sequence, int layer, int kv_head) const;

  // Keeps the keys for which keep(position) is true; a page without any is freed. Pages that are
  // left half empty, in all heads of a group, are packed together once a page could be saved.
  void retain(SequenceId sequence, int layer, int kv_head, const std::function<bool(int32_t position)>& keep);
  // Drops the positions in [begin, end). Where the live keys of two neighbouring pages fit into one they
  // are moved there, so that a cut at any place costs less than a page.
  void drop(SequenceId sequence, int layer, int kv_head, int32_t begin, int32_t end);
  // Drops every key at or after `position` in all heads: back to a prefix.
  void truncate(SequenceId sequence, int32_t position);
  void truncate(SequenceId sequence, int layer, int32_t position);  // of one layer

  // A group as it lies in memory, for kv_snapshot.
  struct PageView {
    std::vector<std::span<const int32_t>> positions;  // of each head, kPageKeys
    std::vector<std::span<const std::byte>> blocks;   // what the heads share, if they do; of each head with a key
  };
  std::vector<PageView> pages(SequenceId sequence, int layer, int group) const;
  // What the next append goes by.
  struct Tail {
    int n_used_last = 0;         // slots written in the last page, dead ones among them
    int32_t last_position = -1;  // the next position is higher
  };
  Tail tail(SequenceId sequence, int layer, int group) const;
  // Gives a group without pages copies of these: all positions, [n_pages, heads, kPageKeys], and the blocks of all
  // pages. From several threads at once, as append. The caller has checked them: live positions rise through all
  // pages and are those of every head that has the slot, each page has one, tail fits.
  void put_pages(SequenceId sequence, int layer, int group, size_t n_pages, const std::byte* blocks,
                 const int32_t* positions, const Tail& tail);
  size_t page_bytes(int layer, int n_heads) const;  // of a page in which so many heads of its group have a key

  uint64_t bytes() const;                     // of all live pages, shared ones counted once
  uint64_t bytes(SequenceId sequence) const;  // of the pages that one sequence holds
  // What `n_keys` keys of one head of a layer would take in the least number of pages, as bytes() counts; of what a
  // group shares, its part.
  uint64_t ideal_bytes(int layer, int64_t n_keys) const;

 private:
  struct Group;
  using Sequence = std::vector<std::shared_ptr<Group>>;  // of every layer; forks share a group until one side writes

  size_t index(int layer, int kv_head) const;  // of its group in a Sequence
  int in_group(int layer, int kv_head) const { return kv_head % shape_.layer(layer).group_heads(); }
  Group& group_of(SequenceId sequence, int layer, int kv_head);  // to write
  const Group* find_group(SequenceId sequence, int layer, int kv_head) const;
  int first_head(int layer, int group) const;
  std::shared_ptr<KvPage> new_page(int layer);
  KvPage& writable(Group& group, size_t index);
  // Moves the live keys of page i + 1 behind those of page i, if they fit, and frees it.
  bool merge_with_next(Group& group, size_t index);
  void truncate(Group& group, int32_t position);

  CacheShape shape_;
  std::vector<size_t> first_group_;  // of each layer in a Sequence, and behind the last
  std::map<SequenceId, Sequence> sequences_;
  std::vector<std::shared_ptr<KvPageMemory>> memory_;  // of each layer; layers with pages of one size share one
};

}  // namespace fovea::attention
