// mqar: "pairs" of a key and its value, then every key again in another order, each followed by its value, which is
// learned. Keys are the lower half of the vocabulary, values the upper. Arora et al., arXiv:2312.04927.
#include <algorithm>
#include <numeric>
#include <utility>

#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

class Mqar final : public Generator {
 public:
  Mqar(Settings& settings, const Context& context)
      : Generator(settings, context), half_(std::max<int64_t>(1, context.vocab_size / 2)), pairs_(1) {
    const int64_t most = std::min(half_, context.context / 4);
    if (most < 1)
      settings.wrong("generator", "mqar needs a context of 4 and a vocabulary of 2 or more");
    else
      pairs_ = settings.integer("pairs", most, 1, most);
    values_ = std::max<int64_t>(1, context.vocab_size - half_);
  }

 private:
  // `n` different numbers below half_, in random order.
  std::vector<int32_t> some(Rng& rng, int64_t n) const {
    std::vector<int32_t> all(static_cast<size_t>(half_));
    std::iota(all.begin(), all.end(), 0);
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) std::swap(all[i], all[i + rng.below(all.size() - i)]);
    all.resize(static_cast<size_t>(n));
    return all;
  }
  Sample draw(Rng& rng) const override {
    const auto n = static_cast<size_t>(pairs_);
    const std::vector<int32_t> keys = some(rng, pairs_);
    std::vector<int32_t> ids, order(n);
    for (size_t i = 0; i < n; ++i) {
      ids.push_back(keys[i]);
      ids.push_back(static_cast<int32_t>(half_) + static_cast<int32_t>(rng.below(static_cast<uint64_t>(values_))));
    }
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = n; i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
    for (const int32_t i : order) {
      const auto at = static_cast<size_t>(i);
      const int32_t key = ids[2 * at], value = ids[2 * at + 1];
      ids.push_back(key);
      ids.push_back(value);
    }
    Sample sample = Sample::next_token(std::move(ids));
    for (size_t i = 0; i < sample.targets.size(); ++i) {
      if (i < 2 * n || i % 2 != 0) sample.targets[i] = kNoTarget;
    }
    return sample;
  }
  int64_t half_, pairs_, values_ = 1;
};
FOVEA_TRAIN_PART(Generator, "mqar", Mqar);

}  // namespace
}  // namespace fovea::train
