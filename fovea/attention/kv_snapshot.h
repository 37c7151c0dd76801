// One layer of a sequence's cache as bytes, page by page as they lie in memory, so that a cache that is
// taken back gives the same bits. The bytes are those of this build of the program on this instruction
// set: whoever stores them stores that too. Layout: docs/prefix-cache.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "fovea/attention/kv_cache.h"
#include "fovea/base/result.h"

namespace fovea::attention {

uint64_t layer_bytes(const KvCache& cache, SequenceId sequence, int layer);

// Calls put(bytes) with layer_bytes() in order, until it fails.
Status write_layer(const KvCache& cache, SequenceId sequence, int layer,
                   const std::function<Status(std::span<const std::byte>)>& put);

// The same layer of a sequence that was created and has no keys there. Layers may be read from several threads at
// once. kData, starting with `name`, if the bytes are no such layer or hold a position of `n_tokens` or more.
Status read_layer(KvCache& cache, SequenceId sequence, int layer, std::span<const std::byte> bytes, int32_t n_tokens,
                  const std::string& name);

}  // namespace fovea::attention
