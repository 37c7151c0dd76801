// What an attention method saves of a sequence's keys and values, for reports.
#pragma once

#include <cstdint>

#include "fovea/engine/session.h"

namespace fovea::engine {

struct KeyBytes {
  uint64_t kept = 0;   // with what its methods keep of the text beside the cache
  uint64_t dense = 0;  // those that no method had dropped, in full pages
};
inline KeyBytes key_bytes(const Session& session, SequenceId sequence) {
  const attention::ModelShape& shape = session.shape();
  return {session.cache().bytes(sequence) + session.pipeline(sequence).state_bytes(sequence),
          session.cache().ideal_bytes(0, session.length(sequence)) *
              static_cast<uint64_t>(shape.n_layers * shape.n_kv_heads)};
}

// Keys that were looked at since `before`, of those that dense attention looks at; 1 if it looks at none.
inline double key_share(const Session& session, const attention::KeyCount& before) {
  const attention::KeyCount& after = session.key_count();
  if (after.dense <= before.dense) return 1;
  return static_cast<double>(after.seen - before.seen) / static_cast<double>(after.dense - before.dense);
}

}  // namespace fovea::engine
