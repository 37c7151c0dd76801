// item-label: pairs of an item and its label, as many as fit; every label but the first of each item can be known from
// the sequence, and is learned. "items" (8) different ones in a sequence, out of the lower half of the vocabulary;
// "labels" (2) are the ids above. "fixed" (0): the share of sequences in which every item has one label for good, which
// a model may keep in its weights; in the others labels are drawn anew, and only the context tells them.
// "zipf" (0): how much more often the first items come. Reddy, arXiv:2312.03002.
#include <algorithm>
#include <cmath>
#include <utility>

#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

class ItemLabel final : public Generator {
 public:
  ItemLabel(Settings& settings, const Context& context)
      : Generator(settings, context), all_(context.vocab_size / 2), pairs_((context.context + 1) / 2) {
    if (all_ < 1 || pairs_ < 2) {
      settings.wrong("generator", "item-label needs a context of 3 and a vocabulary of 2 or more");
      return;
    }
    const int64_t most = std::min(all_, pairs_ - 1), above = context.vocab_size - all_;
    items_ = settings.integer("items", std::min<int64_t>(8, most), 1, most);
    labels_ = settings.integer("labels", std::min<int64_t>(2, above), 1, above);
    fixed_ = settings.number("fixed", 0, 0, 1);
    const double zipf = settings.number("zipf", 0, 0, 8);
    double sum = 0;
    for (int64_t i = 0; i < all_; ++i) up_to_.push_back(sum += std::pow(static_cast<double>(i + 1), -zipf));
  }

 private:
  int32_t any_item(Rng& rng) const {
    const auto at = std::upper_bound(up_to_.begin(), up_to_.end() - 1, rng.uniform() * up_to_.back());
    return static_cast<int32_t>(at - up_to_.begin());
  }
  Sample draw(Rng& rng) const override {
    const auto n = static_cast<size_t>(items_);
    std::vector<int32_t> items;
    const auto taken = [&](int32_t item) { return std::find(items.begin(), items.end(), item) != items.end(); };
    while (items.size() < n) {
      int32_t item = any_item(rng);
      for (int tries = 0; tries < 64 && taken(item); ++tries) item = any_item(rng);
      for (; taken(item); item = static_cast<int32_t>((item + 1) % all_)) {
      }
      items.push_back(item);
    }
    const bool fixed = rng.uniform() < fixed_;
    std::vector<int32_t> labels;
    for (const int32_t item : items) {
      Rng own(static_cast<uint64_t>(item) + 1);
      Rng& source = fixed ? own : rng;
      labels.push_back(static_cast<int32_t>(all_ + static_cast<int64_t>(source.below(static_cast<uint64_t>(labels_)))));
    }
    std::vector<int32_t> ids;
    std::vector<bool> known(n), wanted;  // per pair
    for (int64_t i = 0; i < pairs_; ++i) {
      // Every item once first, then any.
      const size_t at = i < items_ ? static_cast<size_t>(i) : static_cast<size_t>(rng.below(n));
      ids.push_back(items[at]), ids.push_back(labels[at]);
      wanted.push_back(fixed || known[at]);
      known[at] = true;
    }
    Sample sample = Sample::next_token(std::move(ids));
    for (size_t i = 0; i < sample.targets.size(); ++i) {
      if (i % 2 != 0 || !wanted[i / 2]) sample.targets[i] = kNoTarget;
    }
    return sample;
  }
  int64_t all_, pairs_, items_ = 1, labels_ = 1;
  double fixed_ = 0;
  std::vector<double> up_to_;  // of items, the sum of the weights so far
};
FOVEA_TRAIN_PART(Generator, "item-label", ItemLabel);

}  // namespace
}  // namespace fovea::train
