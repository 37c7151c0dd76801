// passkey: a sample as long as the context, of random words; at "keys" places a mark, the name of a key and its number
// of "digits" digits; at the end a question mark, the name of one of them, and its number, which is learned. "depth"
// (0 to 1): where the key that is asked for lies among the words, else anywhere. Ids: 0 to 9 are digits, then come the
// names; the last is the mark, the one before it the question. After Mohtashami and Jaggi, arXiv:2305.16300.
#include <algorithm>
#include <cmath>
#include <utility>

#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

constexpr int64_t kDigits = 10;

class Passkey final : public Generator {
 public:
  Passkey(Settings& settings, const Context& context)
      : Generator(settings, context),
        length_(context.context + 1),
        question_(static_cast<int32_t>(context.vocab_size - 2)) {
    const int64_t names = std::min(context.vocab_size - kDigits - 3, (length_ - 3) / 3 - 1);
    if (names < 1) {
      settings.wrong("generator", "passkey needs a context of 8 and a vocabulary of 14 or more");
      return;
    }
    keys_ = settings.integer("keys", 1, 1, names);
    const int64_t most = (length_ - 2 - 2 * keys_) / (keys_ + 1);
    digits_ = settings.integer("digits", std::min<int64_t>(5, most), 1, most);
    depth_ = settings.number("depth", -1, -1, 1);
  }

 private:
  Sample draw(Rng& rng) const override {
    const int64_t words = length_ - keys_ * (2 + digits_) - 2 - digits_, first_word = kDigits + keys_;
    std::vector<std::vector<int32_t>> numbers(static_cast<size_t>(keys_));
    for (auto& number : numbers) {
      for (int64_t i = 0; i < digits_; ++i) number.push_back(static_cast<int32_t>(rng.below(kDigits)));
    }
    const auto asked = static_cast<size_t>(rng.below(static_cast<uint64_t>(keys_)));
    std::vector<std::pair<int64_t, size_t>> places;  // words before a key
    for (size_t key = 0; key < numbers.size(); ++key) {
      const auto anywhere = static_cast<int64_t>(rng.below(static_cast<uint64_t>(words) + 1));
      places.emplace_back(key == asked && depth_ >= 0 ? std::llround(depth_ * static_cast<double>(words)) : anywhere,
                          key);
    }
    std::stable_sort(places.begin(), places.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<int32_t> ids;
    const auto tell = [&](int32_t mark, size_t key) {
      ids.push_back(mark);
      ids.push_back(static_cast<int32_t>(kDigits + static_cast<int64_t>(key)));
      ids.insert(ids.end(), numbers[key].begin(), numbers[key].end());
    };
    auto place = places.begin();
    for (int64_t word = 0; word <= words; ++word) {
      for (; place != places.end() && place->first == word; ++place) tell(question_ + 1, place->second);
      if (word < words)
        ids.push_back(static_cast<int32_t>(
            first_word + static_cast<int64_t>(rng.below(static_cast<uint64_t>(question_ - first_word)))));
    }
    tell(question_, asked);
    Sample sample = Sample::next_token(std::move(ids));
    std::fill(sample.targets.begin(), sample.targets.end() - digits_, kNoTarget);
    return sample;
  }
  int64_t length_, keys_ = 1, digits_ = 1;
  double depth_ = -1;
  int32_t question_;
};
FOVEA_TRAIN_PART(Generator, "passkey", Passkey);

}  // namespace
}  // namespace fovea::train
