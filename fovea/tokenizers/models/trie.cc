#include "fovea/tokenizers/models/trie.h"

#include <algorithm>
#include <bit>

#include "fovea/base/check.h"

namespace fovea::tokenizers {

Trie::Trie(size_t bytes) {
  const size_t n = std::bit_ceil(std::max<size_t>(16, bytes + bytes / 2));
  roots_.fill({kFree, kLeaf, -1, 0});
  edges_.assign(n, {kFree, kLeaf, -1, 0});
  shift_ = 64 - std::countr_zero(n);
}

void Trie::add(std::string_view token, int32_t id) {
  FOVEA_CHECK(!token.empty(), "Trie: an empty token");
  Edge* last = nullptr;
  for (const char c : token) {
    const auto byte = static_cast<uint8_t>(c);
    if (last && last->child == kLeaf) last->child = n_nodes_++;
    const uint32_t node = last ? last->child : 0;
    auto* edge = const_cast<Edge*>(find(node, byte));
    if (!edge && node == 0) {
      edge = &roots_[byte];
      *edge = {0, kLeaf, -1, byte};
    } else if (!edge) {
      FOVEA_CHECK(n_nodes_ <= edges_.size(), "Trie: more bytes than were announced");
      size_t i = slot_of(node, byte);
      while (edges_[i].parent != kFree) i = (i + 1) & (edges_.size() - 1);
      edge = &edges_[i];
      *edge = {node, kLeaf, -1, byte};
    }
    last = edge;
  }
  if (last->id < 0) last->id = id;
}

}  // namespace fovea::tokenizers
