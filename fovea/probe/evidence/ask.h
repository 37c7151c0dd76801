// A question about documents: what an earlier run had read of them, the rest of the prompt, the answer, the lines that
// it came from, and what all that cost.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "fovea/engine/generate.h"
#include "fovea/engine/prefix_store.h"
#include "fovea/probe/evidence/evidence.h"

namespace fovea::probe {

struct Asked {
  engine::Generation answer;
  std::vector<EvidenceSpan> evidence;
  std::vector<EvidenceSpan> seen;  // more of it, the best first: what a second look reads again (look.h)
  size_t n_stored = 0;             // tokens of the prompt that `store` had
  double prefill_seconds = 0;      // until the first token of the answer could be chosen
  // Of the sequence when the answer was there; dense: those that no method had dropped, in full pages.
  uint64_t kv_bytes = 0, kv_bytes_dense = 0;
  double key_share = 1;  // keys that were looked at, of those that dense attention looks at
};

// `profile` (or null) says whose rows are the evidence. Of `options`, before and on_token are set here. What another
// question can use is set aside in `store`: flush() it when nobody waits. The sequence is gone again when it returns.
// A sequence that was `begun` holds the first rows of the prompt. Errors as Session::prefill and engine::generate;
// cancelled in the answer: the answer so far.
Result<Asked> ask(engine::Session& session, engine::PrefixStore& store, std::span<const engine::Document> documents,
                  const engine::DocumentPrompt& prompt, const attention::HeadProfile* profile,
                  const engine::GenerateOptions& options, std::optional<engine::SequenceId> begun = {});

}  // namespace fovea::probe
