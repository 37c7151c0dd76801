#include "fovea/attention/kv_snapshot.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "fovea/base/bytes.h"

namespace fovea::attention {
namespace {

using kernels::kNoPosition;
using kernels::kPageKeys;

static_assert(std::endian::native == std::endian::little, "stored numbers are little-endian, and so is this memory");

constexpr uint64_t kHeadBytes = 3 * sizeof(int32_t);  // pages, slots used in the last one, last position
constexpr uint64_t kPositionsBytes = kPageKeys * sizeof(int32_t);

// Whether the pages of a head are what appending, dropping and truncating leave.
Status check_head(std::span<const int32_t> positions, const KvCache::Tail& tail, int32_t n_tokens,
                  const std::string& name, int layer, int kv_head) {
  const auto wrong = [&](const char* what) {
    return make_error(ErrorCode::kData, "{}: layer {} head {}: {}", name, layer, kv_head, what);
  };
  int32_t last = -1;
  for (size_t first = 0; first < positions.size(); first += kPageKeys) {
    bool live = false;
    for (size_t slot = first; slot < first + kPageKeys; ++slot) {
      const int32_t position = positions[slot];
      if (position == kNoPosition) continue;
      if (position <= last || position >= n_tokens)
        return wrong("positions do not rise from 0 to the number of tokens");
      last = position;
      live = true;
    }
    if (!live) return wrong("a page without a key");
  }
  if (tail.last_position < last || tail.last_position >= n_tokens) return wrong("the last position is out of range");
  if (tail.n_used_last < (positions.empty() ? 0 : 1) || tail.n_used_last > kPageKeys)
    return wrong("the number of slots used is out of range");
  if (positions.empty()) return {};
  const auto unused = positions.last(static_cast<size_t>(kPageKeys - tail.n_used_last));
  if (std::any_of(unused.begin(), unused.end(), [](int32_t p) { return p != kNoPosition; }))
    return wrong("a key lies behind the slots used");
  return {};
}

}  // namespace

uint64_t layer_bytes(const KvCache& cache, SequenceId sequence, int layer) {
  uint64_t bytes = 0;
  for (int kv = 0; kv < cache.shape().layer(layer).n_kv_heads; ++kv)
    bytes += kHeadBytes + cache.blocks(sequence, layer, kv).size() * (kPositionsBytes + cache.page_bytes(layer));
  return bytes;
}

Status write_layer(const KvCache& cache, SequenceId sequence, int layer,
                   const std::function<Status(std::span<const std::byte>)>& put) {
  for (int kv = 0; kv < cache.shape().layer(layer).n_kv_heads; ++kv) {
    const auto blocks = cache.blocks(sequence, layer, kv);
    const KvCache::Tail tail = cache.tail(sequence, layer, kv);
    const std::array<int32_t, 3> head = {static_cast<int32_t>(blocks.size()), tail.n_used_last, tail.last_position};
    FOVEA_RETURN_IF_ERROR(put(std::as_bytes(std::span(head))));
    for (const kernels::KeyBlock& block : blocks)
      FOVEA_RETURN_IF_ERROR(put(std::as_bytes(std::span(block.positions, kPageKeys))));
    for (const kernels::KeyBlock& block : blocks)  // its values lie behind its keys
      FOVEA_RETURN_IF_ERROR(put({static_cast<const std::byte*>(block.k), cache.page_bytes(layer)}));
  }
  return {};
}

Status read_layer(KvCache& cache, SequenceId sequence, int layer, std::span<const std::byte> bytes, int32_t n_tokens,
                  const std::string& name) {
  ByteReader reader(bytes, name);
  std::vector<int32_t> positions;
  for (int kv = 0; kv < cache.shape().layer(layer).n_kv_heads; ++kv) {
    FOVEA_ASSIGN_OR_RETURN(const auto n_pages, reader.read<uint32_t>("the number of pages"));
    KvCache::Tail tail;
    FOVEA_ASSIGN_OR_RETURN(tail.n_used_last, reader.read<int32_t>("the slots used"));
    FOVEA_ASSIGN_OR_RETURN(tail.last_position, reader.read<int32_t>("the last position"));
    FOVEA_ASSIGN_OR_RETURN(const auto raw, reader.read_bytes(n_pages * kPositionsBytes, "the positions"));
    FOVEA_ASSIGN_OR_RETURN(const auto pages,
                           reader.read_bytes(uint64_t{n_pages} * cache.page_bytes(layer), "the pages"));
    positions.resize(size_t{n_pages} * kPageKeys);
    if (n_pages > 0) std::memcpy(positions.data(), raw.data(), raw.size());
    FOVEA_RETURN_IF_ERROR(check_head(positions, tail, n_tokens, name, layer, kv));
    cache.put_pages(sequence, layer, kv, n_pages, pages.data(), positions.data(), tail);
  }
  if (reader.remaining() > 0)
    return make_error(ErrorCode::kData, "{}: layer {}: {} bytes too many", name, layer, reader.remaining());
  return {};
}

}  // namespace fovea::attention
