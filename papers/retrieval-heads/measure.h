// What the checks of retrieval-heads measure: planted rows, detection, recall under masks.
#pragma once

#include <functional>
#include <vector>

#include "fovea/probe/measures/retrieval.h"
#include "papers/support/decode_run.h"

namespace fovea::papers::retrieval_heads {

using Scores = std::vector<double>;  // of every head

constexpr int kPlantedHeads = 24, kEveryStep = 11, kEverySecondStep = 17, kWrongToken = 20;
// Scores of heads (6 layers of 4) while a needle at [8, 14) of 20 tokens is copied: one looks at the token that is
// copied, one does so at every second step, one looks at another token of the needle, all others at the first token.
// They are taken as if the needle lay at `label`.
Scores planted_scores(tasks::TokenSpan label);

struct Detected {
  size_t samples = 0, accepted = 0;
  Scores scores, moved;  // means over the accepted samples; moved: with the needle's label at another place
  Scores even, odd;      // sums over two halves of them
  double share(const std::function<bool(double)>& of_score) const;  // of heads, in percent
};
Result<Detected> detected(Run& run);  // over all lengths; a cell for each

// The detection over the prompts of one length: {"samples", "accepted", "scored": whether heads have scores, "sums":
// those of Detected}.
Result<Json> detect(Run& run, const std::shared_ptr<const engine::Model>& model, int length);

// Mean ROUGE-1 recall of the needle in percent, 0 to 100, with the best K heads masked; K < 0: random others.
Result<double> recall(Run& run, const Detected& ranked, int k, int draw = 0);

// The same for every number of heads in the setting "masked"; these are of the first one.
struct Masked {
  double plain, best, random, worst;  // random: mean over the draws; worst: the lowest of them
};
Result<Masked> masked(Run& run, const Detected& ranked);

struct Watched {
  DecodeRun run;
  probe::CopyTrace trace;
};
Result<Watched> watched(Run& run, DecodeOptions options);  // while a TopKeys looks at every head

attention::HeadProfile profile_of(const Run& run, const Scores& scores);

}  // namespace fovea::papers::retrieval_heads
