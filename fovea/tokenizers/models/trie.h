// Finds all tokens that a text begins with: a tree of bytes, its edges in one open hash table.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace fovea::tokenizers {

class Trie {
 public:
  // `bytes`: of all that will be added, together.
  explicit Trie(size_t bytes);
  void add(std::string_view token, int32_t id);  // not empty; the first of equal ones stays

  // Calls found(id, length) for each token that [p, end) begins with, the shortest first.
  template <typename Found>
  void prefixes(const char* p, const char* end, const Found& found) const {
    uint32_t node = 0;
    for (const char* at = p; at < end; ++at) {
      const Edge* edge = find(node, static_cast<unsigned char>(*at));
      if (!edge) return;
      if (edge->id >= 0) found(edge->id, static_cast<size_t>(at + 1 - p));
      node = edge->child;
      if (node == kLeaf) return;
    }
  }

 private:
  static constexpr uint32_t kLeaf = UINT32_MAX, kFree = UINT32_MAX;
  struct Edge {
    uint32_t parent;  // kFree: none here
    uint32_t child;
    int32_t id;
    uint8_t byte;
  };
  size_t slot_of(uint32_t node, uint8_t byte) const {
    const uint64_t h = (uint64_t{node} << 8 | byte) * 0x9E3779B97F4A7C15u;
    return static_cast<size_t>(h >> shift_);
  }
  const Edge* find(uint32_t node, uint8_t byte) const {
    if (node == 0) return roots_[byte].parent == kFree ? nullptr : &roots_[byte];
    for (size_t i = slot_of(node, byte);; i = (i + 1) & (edges_.size() - 1)) {
      const Edge& edge = edges_[i];
      if (edge.parent == node && edge.byte == byte) return &edge;
      if (edge.parent == kFree) return nullptr;
    }
  }

  std::array<Edge, 256> roots_;
  std::vector<Edge> edges_;  // a power of two
  int shift_;
  uint32_t n_nodes_ = 1;
};

}  // namespace fovea::tokenizers
