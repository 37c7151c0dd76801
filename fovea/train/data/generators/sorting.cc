// sorting: "length" random numbers below "values", the last id of the vocabulary as a mark, and the numbers again from
// the least to the greatest, which is learned. "distinct": none comes twice.
#include <algorithm>
#include <numeric>
#include <utility>

#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

class Sorting final : public Generator {
 public:
  Sorting(Settings& settings, const Context& context)
      : Generator(settings, context), mark_(static_cast<int32_t>(context.vocab_size - 1)) {
    const int64_t most = std::max<int64_t>(1, context.context / 2);
    values_ = settings.integer("values", std::max<int64_t>(1, context.vocab_size - 1), 1, context.vocab_size - 1);
    distinct_ = settings.flag("distinct", false);
    const int64_t longest = distinct_ ? std::min(most, values_) : most;
    length_ = settings.integer("length", longest, 1, longest);
    if (context.context < 2) settings.wrong("generator", "sorting needs a context of 2 or more");
  }

 private:
  Sample draw(Rng& rng) const override {
    std::vector<int32_t> ids;
    if (distinct_) {
      ids.resize(static_cast<size_t>(values_));
      std::iota(ids.begin(), ids.end(), 0);
      for (size_t i = 0; i < static_cast<size_t>(length_); ++i) std::swap(ids[i], ids[i + rng.below(ids.size() - i)]);
      ids.resize(static_cast<size_t>(length_));
    } else {
      for (int64_t i = 0; i < length_; ++i)
        ids.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(values_))));
    }
    std::vector<int32_t> sorted = ids;
    std::sort(sorted.begin(), sorted.end());
    ids.push_back(mark_);
    ids.insert(ids.end(), sorted.begin(), sorted.end());
    Sample sample = Sample::next_token(std::move(ids));
    std::fill_n(sample.targets.begin(), length_, kNoTarget);
    return sample;
  }
  int64_t length_ = 1, values_ = 1;
  bool distinct_ = false;
  int32_t mark_;
};
FOVEA_TRAIN_PART(Generator, "sorting", Sorting);

}  // namespace
}  // namespace fovea::train
