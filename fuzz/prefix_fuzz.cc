// libFuzzer target: any bytes as a stored prefix, head and layers, into the cache of tests/data/tiny-llama.gguf
// (2 layers of 2 KV heads, 16 wide, i16), or one whose two value heads share a key head. Seeds: tests/fuzz/prefix. The
// checksums are also left out, since no mutation keeps them right. What is taken must serve: append, truncate.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fovea/attention/kv_cache.h"
#include "fovea/engine/prefix_file.h"

using fovea::engine::PrefixFile;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > (1 << 20)) return 0;
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  for (const auto checksums : {PrefixFile::Checksums::kVerify, PrefixFile::Checksums::kIgnore}) {
    const auto file = PrefixFile::parse(bytes, "fuzz.prefix", checksums);
    if (!file) {
      if (file.error().message.empty()) __builtin_trap();
      continue;
    }
    for (const int n_k_heads : {2, 1}) {
      auto shape = fovea::attention::CacheShape::uniform(2, 2, 16, fovea::kernels::KvType::kI16);
      for (auto& layer : shape.layers) layer.n_k_heads = n_k_heads;
      fovea::attention::KvCache cache(shape);
      cache.create(0);
      if (!file->restore(cache, 0)) continue;
      const auto n = static_cast<int32_t>(file->head().tokens.size());
      const std::vector<float> x(2 * 16, 1.0f);
      const auto append = [&] {
        for (int layer = 0; layer < 2; ++layer) {
          for (int group = 0; group < n_k_heads; ++group) cache.append(0, layer, group, n, x.data(), x.data());
        }
      };
      append();
      cache.truncate(0, n / 2);
      for (int layer = 0; layer < 2; ++layer) {
        for (int head = 0; head < 2; ++head) {
          const std::vector<int32_t> positions = cache.positions(0, layer, head);
          if (!positions.empty() && positions.back() >= n / 2) __builtin_trap();
        }
      }
      append();
    }
  }
  return 0;
}
