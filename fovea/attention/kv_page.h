// A page of a group of KV heads and where its bytes come from: for kv_cache.cc only.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "fovea/attention/kv_cache.h"
#include "fovea/attention/page_memory.h"
#include "fovea/kernels/attention.h"

namespace fovea::attention {

// The memory of a page: what the heads of a group share, if they do, and of each head its own. Keys come first.
struct KvPageMemory {
  KvPageMemory(const CacheShape& shape, const CacheShape::Layer& layer)
      : k_type(shape.k_type),
        v_type(shape.v_type),
        k_dim(layer.k_dim),
        v_dim(layer.v_dim),
        n_heads(layer.group_heads()),
        shares_keys(layer.n_k_heads < layer.n_v_heads),
        shares_values(layer.n_v_heads < layer.n_k_heads),
        own_keys(shares_keys ? 0 : kernels::key_bytes(k_type, k_dim)),
        shared_bytes(shares_keys     ? kernels::key_bytes(k_type, k_dim)
                     : shares_values ? kernels::value_bytes(v_type, v_dim)
                                     : 0),
        own_bytes(own_keys + (shares_values ? 0 : kernels::value_bytes(v_type, v_dim))),
        own(own_bytes) {
    if (shared_bytes > 0) shared.emplace(shared_bytes);
  }
  std::byte* take(PageMemory& from, size_t bytes) {
    auto* block = static_cast<std::byte*>(from.take());
    std::memset(block, 0, bytes);  // a dead slot must not hold NaN: 0 * NaN would leak into z
    n_bytes += bytes;
    return block;
  }
  void give(PageMemory& to, std::byte* block, size_t bytes) {
    to.give(block);
    n_bytes -= bytes;
  }

  const kernels::KvType k_type, v_type;
  const int k_dim, v_dim;
  const int n_heads;  // of a group
  const bool shares_keys, shares_values;
  const size_t own_keys, shared_bytes, own_bytes;
  PageMemory own;
  std::optional<PageMemory> shared;
  std::atomic<uint64_t> n_bytes{0};  // in use
};

// One page of every head of a group, and the positions beside the bytes, so that a page that sequences share has both.
// A slot is at the same position in every head that has it.
struct KvPage {
  struct Head {
    std::byte* bytes = nullptr;  // null: no key
    std::array<int32_t, kernels::kPageKeys> positions;
  };

  explicit KvPage(std::shared_ptr<KvPageMemory> from) : memory(std::move(from)) {
    KvPageMemory& m = *memory;
    if (m.shared) shared = m.take(*m.shared, m.shared_bytes);
    if (m.n_heads > 1) others = std::make_unique<Head[]>(static_cast<size_t>(m.n_heads - 1));
    for (int h = 0; h < m.n_heads; ++h) head(h).positions.fill(kernels::kNoPosition);
  }
  ~KvPage() {
    KvPageMemory& m = *memory;
    for (int h = 0; h < m.n_heads; ++h) {
      if (holds(h)) m.give(m.own, head(h).bytes, m.own_bytes);
    }
    if (shared) m.give(*m.shared, shared, m.shared_bytes);
  }
  KvPage(const KvPage&) = delete;
  KvPage& operator=(const KvPage&) = delete;

  Head& head(int h) { return h == 0 ? first : others[static_cast<size_t>(h - 1)]; }
  const Head& head(int h) const { return h == 0 ? first : others[static_cast<size_t>(h - 1)]; }
  bool holds(int h) const { return head(h).bytes != nullptr; }
  int n_held() const {
    int n = 0;
    for (int h = 0; h < memory->n_heads; ++h) n += holds(h);
    return n;
  }
  size_t bytes() const { return memory->shared_bytes + static_cast<size_t>(n_held()) * memory->own_bytes; }
  int32_t at(int h, int slot) const { return head(h).positions[static_cast<size_t>(slot)]; }
  int32_t at(int slot) const {  // in any head
    int32_t position = at(0, slot);
    for (int h = 1; h < memory->n_heads; ++h) position = std::min(position, at(h, slot));
    return position;
  }
  template <typename Holds>
  static uint32_t slots_where(const Holds& holds) {
    uint32_t slots = 0;
    for (int slot = 0; slot < kernels::kPageKeys; ++slot) slots |= static_cast<uint32_t>(holds(slot)) << slot;
    return slots;
  }
  uint32_t live(int h) const {
    return slots_where([&](int slot) { return at(h, slot) != kernels::kNoPosition; });
  }
  uint32_t live() const {
    return slots_where([&](int slot) { return at(slot) != kernels::kNoPosition; });
  }
  uint32_t live_beside(int h) const {
    uint32_t slots = 0;
    for (int other = 0; other < memory->n_heads; ++other) slots |= other == h ? 0 : live(other);
    return slots;
  }
  uint32_t live_within(int h, int32_t begin, int32_t end) const {
    return slots_where([&](int slot) { return at(h, slot) >= begin && at(h, slot) < end; });
  }

  void* keys(int h) { return memory->shares_keys ? shared : head(h).bytes; }
  void* values(int h) { return memory->shares_values ? shared : head(h).bytes + memory->own_keys; }
  kernels::KeyBlock block(int h) { return {keys(h), values(h), head(h).positions.data()}; }

  void open(int h) {
    if (!holds(h)) head(h).bytes = memory->take(memory->own, memory->own_bytes);
  }
  void drop(int h, uint32_t slots) {
    for (int slot = 0; slot < kernels::kPageKeys; ++slot) {
      if (slots >> slot & 1u) head(h).positions[static_cast<size_t>(slot)] = kernels::kNoPosition;
    }
    if (!holds(h) || live(h) != 0) return;
    memory->give(memory->own, head(h).bytes, memory->own_bytes);
    head(h).bytes = nullptr;
  }
  // In every head, all of which are open.
  void write(int slot, int32_t position, const float* k, const float* v) {
    const KvPageMemory& m = *memory;
    for (int h = 0; h < m.n_heads; ++h) {
      head(h).positions[static_cast<size_t>(slot)] = position;
      if (h == 0 || !m.shares_keys) kernels::key_write(keys(h), m.k_type, m.k_dim, slot, k + h * m.k_dim);
      if (h == 0 || !m.shares_values) kernels::value_write(values(h), m.v_type, m.v_dim, slot, v + h * m.v_dim);
    }
  }
  void copy_slot(int to, KvPage& from, int slot) {
    const KvPageMemory& m = *memory;
    bool copies_shared = true;
    for (int h = 0; h < m.n_heads; ++h) {
      if (from.at(h, slot) == kernels::kNoPosition) continue;
      open(h);
      head(h).positions[static_cast<size_t>(to)] = from.at(h, slot);
      if (copies_shared || !m.shares_keys) kernels::key_copy(keys(h), to, from.keys(h), slot, m.k_type, m.k_dim);
      if (copies_shared || !m.shares_values)
        kernels::value_copy(values(h), to, from.values(h), slot, m.v_type, m.v_dim);
      copies_shared = false;
    }
  }
  void copy(const KvPage& from) {
    const KvPageMemory& m = *memory;
    if (shared) std::memcpy(shared, from.shared, m.shared_bytes);
    for (int h = 0; h < m.n_heads; ++h) {
      if (!from.holds(h)) continue;
      open(h);
      std::memcpy(head(h).bytes, from.head(h).bytes, m.own_bytes);
      head(h).positions = from.head(h).positions;
    }
  }

  std::shared_ptr<KvPageMemory> memory;
  std::byte* shared = nullptr;
  Head first;
  std::unique_ptr<Head[]> others;
};

}  // namespace fovea::attention
