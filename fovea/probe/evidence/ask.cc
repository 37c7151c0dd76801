#include "fovea/probe/evidence/ask.h"

#include <chrono>
#include <utility>

#include "fovea/engine/key_bytes.h"
#include "fovea/probe/evidence/answer.h"

namespace fovea::probe {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSeen = 12;  // spans of evidence that a second look may read again

// Brings the sequence to the end of what questions share. It is read apart from the question, whether or not it is
// kept: methods that remember where a prompt was cut then answer the same.
Status read_shared(engine::Session& session, engine::PrefixStore& store, engine::SequenceId sequence,
                   const engine::DocumentPrompt& prompt, const engine::PrefillOptions& options) {
  const std::span<const int32_t> shared = std::span(prompt.tokens).first(prompt.n_shared);
  const auto n_held = static_cast<size_t>(session.length(sequence));
  if (n_held < shared.size()) {
    const auto read = session.prefill(sequence, shared.subspan(n_held), options);
    if (!read) return read.error();
  }
  if (shared.size() >= n_held + engine::PrefixStore::kLeastTokens) store.remember(session, sequence, shared);
  return {};
}

Result<Asked> ask(engine::Session& session, engine::PrefixStore& store, engine::SequenceId sequence,
                  std::span<const engine::Document> documents, const engine::DocumentPrompt& prompt,
                  const attention::HeadProfile* profile, const engine::GenerateOptions& options,
                  Clock::time_point start) {
  Asked out;
  Evidence evidence(session.shape(), profile, prompt);
  FOVEA_RETURN_IF_ERROR(read_shared(session, store, sequence, prompt, options.prefill));
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  FOVEA_ASSIGN_OR_RETURN(out.answer, answer_with_evidence(session, sequence, prompt, evidence, options));
  out.evidence = evidence.spans(documents);
  out.seen = evidence.spans(documents, kSeen, /*least=*/0);
  out.prefill_seconds = seconds + out.answer.prompt_seconds;
  const engine::KeyBytes bytes = engine::key_bytes(session, sequence);
  out.kv_bytes = bytes.kept, out.kv_bytes_dense = bytes.dense;
  return out;
}

}  // namespace

Result<Asked> ask(engine::Session& session, engine::PrefixStore& store, std::span<const engine::Document> documents,
                  const engine::DocumentPrompt& prompt, const attention::HeadProfile* profile,
                  const engine::GenerateOptions& options, std::optional<engine::SequenceId> begun) {
  const Clock::time_point start = Clock::now();
  const attention::KeyCount before = session.key_count();
  std::optional<engine::SequenceId> stored;
  if (!begun) {
    if (const auto found = store.find(session, prompt.tokens, prompt.n_shared)) stored = found->sequence;
  }
  const engine::SequenceId sequence = begun ? *begun : stored ? *stored : session.begin();
  const size_t n_stored = stored ? static_cast<size_t>(session.length(sequence)) : 0;
  session.set_spans(sequence, prompt.segments);
  auto out = ask(session, store, sequence, documents, prompt, profile, options, start);
  session.remove(sequence);
  if (!out) return out;
  out->n_stored = n_stored;
  out->key_share = engine::key_share(session, before);
  return out;
}

}  // namespace fovea::probe
