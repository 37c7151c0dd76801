// A second look at what a question was answered from. The passages under the evidence are read again, each alone with
// the same question; how likely the question itself becomes behind a passage tells which of them it is about, and that
// one gives an answer of its own. The model's own probabilities choose between it and the first answer.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/engine/generate.h"
#include "fovea/probe/evidence/evidence.h"
#include "fovea/probe/evidence/passages.h"

namespace fovea::probe {

struct LookOptions {
  PassageOptions passages;
  static constexpr size_t kWhole = 1000;  // room for all that a look is able to read
  double share = 0.08;  // of the tokens of the first prompt: so many are read again at most, the answer counted in
  size_t least = 0;     // but no less than this: kWhole looks at short texts too, whatever it costs
  int n_predict = 40;
  const std::atomic<bool>* cancel = nullptr;
};

enum class View { kWhole, kPassage };
std::string_view name_of(View view);  // "whole", "passage"

// An answer and what was read for it. A passage that was read and not answered from has no tokens.
struct Look {
  View view = View::kWhole;
  std::string answer;
  std::vector<int32_t> tokens;
  Passage passage;      // of kPassage
  double logprob = 0;   // mean over its tokens, in this view
  double within = 0;    // the same behind the passage; of the first answer: behind the best one
  double without = 0;   // and where nothing is read: what is said without reading tells nothing
  double question = 0;  // mean log-probability of the question's tokens behind the passage, less that behind nothing
};

struct Looked {
  std::vector<Look> looks;  // the first answer, then the passages, those first that make the question likeliest
  size_t chosen = 0;
  bool supported = true;  // else no passage supports an answer: the text does not say
  bool disagree = false;  // the best passage gives another answer than the whole text did
  double seconds = 0;
};

// Reads again what `spans` point at: all evidence of the first answer, the best first. `prompt`: the one that `first`
// answered, of `documents`; first.logprobs must be there. `begun`: a sequence with the rows that every prompt begins
// with, if there are such; it is left as it is. Errors as Session::prefill; nothing stays behind in the session.
Result<Looked> look_again(engine::Session& session, std::span<const engine::Document> documents,
                          const std::string& question, const engine::DocumentPrompt& prompt,
                          const engine::Generation& first, std::span<const EvidenceSpan> spans,
                          std::optional<engine::SequenceId> begun, const LookOptions& options = {});

}  // namespace fovea::probe
