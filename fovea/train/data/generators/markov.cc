// markov: a chain over "states" symbols, each with "branches" others that may follow, of weights 1, 1/2, 1/4, ... The
// chain is drawn from "chain", whatever the seed of the samples: training and held-out data have the same.
#include <algorithm>

#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

class Markov final : public Generator {
 public:
  Markov(Settings& settings, const Context& context)
      : Generator(settings, context),
        n_(context.context + 1),
        states_(settings.integer("states", context.vocab_size, 1, context.vocab_size)),
        branches_(settings.integer("branches", 4, 1, 64)) {
    Rng rng(static_cast<uint64_t>(settings.integer("chain", 0, 0, INT64_MAX)));
    next_.resize(static_cast<size_t>(states_ * branches_));
    for (int32_t& id : next_) id = static_cast<int32_t>(rng.below(static_cast<uint64_t>(states_)));
  }

 private:
  Sample draw(Rng& rng) const override {
    std::vector<int32_t> ids = {static_cast<int32_t>(rng.below(static_cast<uint64_t>(states_)))};
    while (static_cast<int64_t>(ids.size()) < n_) {
      // Halves: the last branch takes what the last but one does.
      int64_t branch = 0;
      while (branch + 1 < branches_ && rng.next() >> 63) ++branch;
      ids.push_back(next_[static_cast<size_t>(ids.back() * branches_ + branch)]);
    }
    return Sample::next_token(std::move(ids));
  }
  int64_t n_, states_, branches_;
  std::vector<int32_t> next_;  // [states, branches]
};
FOVEA_TRAIN_PART(Generator, "markov", Markov);

}  // namespace
}  // namespace fovea::train
