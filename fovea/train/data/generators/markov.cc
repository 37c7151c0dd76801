// markov: a chain over "states" symbols, each with "branches" others that may follow, of weights 1, 1/2, 1/4, ... The
// chain is drawn from "chain", whatever the seed of the samples: training and held-out data have the same. With
// "begin" the id behind the symbols' stands before each sample; of "triggers" symbols, the first ones, what stood
// before one stands behind it as well, whatever the chain says (the bigram-backcopy task of Guo et al.,
// arXiv:2410.13835): a head that copies it has nothing to do elsewhere, and looks at the beginning there.
#include <algorithm>

#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

class Markov final : public Generator {
 public:
  Markov(Settings& settings, const Context& context)
      : Generator(settings, context),
        n_(context.context + 1),
        begin_(settings.flag("begin", false)),
        states_(settings.integer("states", context.vocab_size - begin_, 1, context.vocab_size - begin_)),
        branches_(settings.integer("branches", 4, 1, 64)),
        triggers_(settings.integer("triggers", 0, 0, states_)) {
    Rng rng(static_cast<uint64_t>(settings.integer("chain", 0, 0, INT64_MAX)));
    next_.resize(static_cast<size_t>(states_ * branches_));
    for (int32_t& id : next_) id = static_cast<int32_t>(rng.below(static_cast<uint64_t>(states_)));
  }

 private:
  Sample draw(Rng& rng) const override {
    std::vector<int32_t> ids;
    if (begin_) ids.push_back(static_cast<int32_t>(states_));
    const size_t first = ids.size();
    ids.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(states_))));
    while (static_cast<int64_t>(ids.size()) < n_) {
      if (ids.back() < triggers_ && ids.size() > first + 1) {
        ids.push_back(ids[ids.size() - 2]);
        continue;
      }
      // Halves: the last branch takes what the last but one does.
      int64_t branch = 0;
      while (branch + 1 < branches_ && rng.next() >> 63) ++branch;
      ids.push_back(next_[static_cast<size_t>(ids.back() * branches_ + branch)]);
    }
    return Sample::next_token(std::move(ids));
  }
  int64_t n_;
  bool begin_;
  int64_t states_, branches_, triggers_;
  std::vector<int32_t> next_;  // [states, branches]
};
FOVEA_TRAIN_PART(Generator, "markov", Markov);

}  // namespace
}  // namespace fovea::train
