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

constexpr uint64_t kGroupBytes = 3 * sizeof(int32_t);  // pages, slots used in the last one, last position
constexpr uint64_t kPositionsBytes = kPageKeys * sizeof(int32_t);

// Whether the pages of a group of heads, [n_pages, n_heads, kPageKeys], are what appending, dropping and truncating
// leave.
Status check_group(std::span<const int32_t> positions, int n_heads, const KvCache::Tail& tail, int32_t n_tokens,
                   const std::string& name, int layer, int group) {
  const auto wrong = [&](const char* what) {
    return make_error(ErrorCode::kData, "{}: layer {} group {}: {}", name, layer, group, what);
  };
  const size_t page = static_cast<size_t>(n_heads) * kPageKeys;
  int32_t last = -1;
  int used = 0;  // slots of the last page, up to its last key
  for (size_t first = 0; first < positions.size(); first += page) {
    used = 0;
    for (int slot = 0; slot < kPageKeys; ++slot) {
      int32_t position = kNoPosition;  // in the heads that have the slot
      for (size_t at = first + static_cast<size_t>(slot); at < first + page; at += kPageKeys) {
        if (positions[at] == kNoPosition) continue;
        if (position != kNoPosition && positions[at] != position) return wrong("heads differ in the position of a key");
        position = positions[at];
      }
      if (position == kNoPosition) continue;
      if (position <= last || position >= n_tokens)
        return wrong("positions do not rise from 0 to the number of tokens");
      last = position;
      used = slot + 1;
    }
    if (used == 0) return wrong("a page without a key");
  }
  if (tail.last_position < last || tail.last_position >= n_tokens) return wrong("the last position is out of range");
  if (tail.n_used_last < (positions.empty() ? 0 : 1) || tail.n_used_last > kPageKeys)
    return wrong("the number of slots used is out of range");
  if (used > tail.n_used_last) return wrong("a key lies behind the slots used");
  return {};
}

}  // namespace

uint64_t layer_bytes(const KvCache& cache, SequenceId sequence, int layer) {
  uint64_t bytes = 0;
  for (int group = 0; group < cache.shape().layer(layer).n_groups(); ++group) {
    bytes += kGroupBytes;
    for (const KvCache::PageView& page : cache.pages(sequence, layer, group)) {
      bytes += page.positions.size() * kPositionsBytes;
      for (const auto& block : page.blocks) bytes += block.size();
    }
  }
  return bytes;
}

Status write_layer(const KvCache& cache, SequenceId sequence, int layer,
                   const std::function<Status(std::span<const std::byte>)>& put) {
  for (int group = 0; group < cache.shape().layer(layer).n_groups(); ++group) {
    const std::vector<KvCache::PageView> pages = cache.pages(sequence, layer, group);
    const KvCache::Tail tail = cache.tail(sequence, layer, group);
    const std::array<int32_t, 3> head = {static_cast<int32_t>(pages.size()), tail.n_used_last, tail.last_position};
    FOVEA_RETURN_IF_ERROR(put(std::as_bytes(std::span(head))));
    for (const KvCache::PageView& page : pages) {
      for (const auto& positions : page.positions) FOVEA_RETURN_IF_ERROR(put(std::as_bytes(positions)));
    }
    for (const KvCache::PageView& page : pages) {
      for (const auto& block : page.blocks) FOVEA_RETURN_IF_ERROR(put(block));
    }
  }
  return {};
}

Status read_layer(KvCache& cache, SequenceId sequence, int layer, std::span<const std::byte> bytes, int32_t n_tokens,
                  const std::string& name) {
  ByteReader reader(bytes, name);
  std::vector<int32_t> positions;
  const int n_heads = cache.shape().layer(layer).group_heads();
  for (int group = 0; group < cache.shape().layer(layer).n_groups(); ++group) {
    FOVEA_ASSIGN_OR_RETURN(const auto n_pages, reader.read<uint32_t>("the number of pages"));
    KvCache::Tail tail;
    FOVEA_ASSIGN_OR_RETURN(tail.n_used_last, reader.read<int32_t>("the slots used"));
    FOVEA_ASSIGN_OR_RETURN(tail.last_position, reader.read<int32_t>("the last position"));
    const uint64_t n_lists = uint64_t{n_pages} * static_cast<uint64_t>(n_heads);
    FOVEA_ASSIGN_OR_RETURN(const auto raw, reader.read_bytes(n_lists * kPositionsBytes, "the positions"));
    positions.resize(n_lists * kPageKeys);
    if (n_pages > 0) std::memcpy(positions.data(), raw.data(), raw.size());
    FOVEA_RETURN_IF_ERROR(check_group(positions, n_heads, tail, n_tokens, name, layer, group));
    uint64_t n_bytes = 0;
    for (auto at = positions.begin(); at != positions.end();) {
      int n_held = 0;
      for (int h = 0; h < n_heads; ++h, at += kPageKeys)
        n_held += std::any_of(at, at + kPageKeys, [](int32_t p) { return p != kNoPosition; });
      n_bytes += cache.page_bytes(layer, n_held);
    }
    FOVEA_ASSIGN_OR_RETURN(const auto pages, reader.read_bytes(n_bytes, "the pages"));
    cache.put_pages(sequence, layer, group, n_pages, pages.data(), positions.data(), tail);
  }
  if (reader.remaining() > 0)
    return make_error(ErrorCode::kData, "{}: layer {}: {} bytes too many", name, layer, reader.remaining());
  return {};
}

}  // namespace fovea::attention
