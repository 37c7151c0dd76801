#include "fovea/probe/evidence/answer.h"

#include <algorithm>
#include <chrono>

#include "fovea/base/check.h"

namespace fovea::probe {
namespace {

constexpr size_t kRowsAhead = size_t{64} << 20;  // bytes of attention rows that drafts may keep waiting

}  // namespace

Result<engine::Generation> answer_with_evidence(engine::Session& session, engine::SequenceId sequence,
                                                const engine::DocumentPrompt& prompt, Evidence& evidence,
                                                engine::GenerateOptions options) {
  const std::span<const int32_t> tokens = prompt.tokens;
  const auto n_held = static_cast<size_t>(session.length(sequence));
  FOVEA_CHECK(n_held < tokens.size(), "answer_with_evidence: {} of {} tokens are held", n_held, tokens.size());
  const auto start = std::chrono::steady_clock::now();
  const std::span<const int32_t> fresh = tokens.subspan(n_held), last = tokens.last(1);
  if (fresh.size() > 1) {
    const auto read = session.prefill(sequence, fresh.first(fresh.size() - 1), options.prefill);
    if (!read) return read.error();
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const size_t most_ahead = kRowsAhead / std::max<size_t>(1, evidence.bytes_per_row());
  options.lookup.max_drafted = static_cast<int>(std::min(most_ahead, static_cast<size_t>(options.lookup.max_drafted)));
  options.on_token = [&evidence](int32_t token) { evidence.take(token); };
  options.before = tokens.first(tokens.size() - 1);
  session.observe(&evidence);
  auto answer = engine::generate(session, sequence, last, options);
  session.stop_observing(&evidence);
  if (!answer) return answer;
  answer->n_prompt = static_cast<int64_t>(fresh.size());
  answer->prompt_seconds += seconds;
  return answer;
}

}  // namespace fovea::probe
