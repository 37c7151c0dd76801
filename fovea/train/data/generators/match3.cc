// match3: "length" random numbers below "modulus"; what is wanted at each is 1 if it and two others (of other places)
// add up to a multiple of the modulus, else 0. By default about half are 1. Sanford, Hsu and Telgarsky,
// arXiv:2306.02896.
#include <algorithm>
#include <utility>

#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

class Match3 final : public Generator {
 public:
  Match3(Settings& settings, const Context& context) : Generator(settings, context) {
    if (context.context < 3 || context.vocab_size < 2) {
      settings.wrong("generator", "match3 needs a context of 3 and a vocabulary of 2 or more");
      return;
    }
    length_ = settings.integer("length", std::min<int64_t>(context.context, 512), 3, context.context);
    const int64_t half = std::clamp<int64_t>(length_ * length_ * 5 / 7, 2, context.vocab_size);
    modulus_ = settings.integer("modulus", half, 2, context.vocab_size);
  }

 private:
  Sample draw(Rng& rng) const override {
    Sample sample;
    const auto m = static_cast<size_t>(modulus_);
    std::vector<int> count(m);
    for (int64_t i = 0; i < length_; ++i) {
      sample.tokens.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(modulus_))));
      ++count[static_cast<size_t>(sample.tokens.back())];
    }
    for (const int32_t x : sample.tokens) sample.targets.push_back(matches(count, static_cast<size_t>(x)) ? 1 : 0);
    return sample;
  }
  // Whether two numbers at other places bring x to a multiple; `count` has x once itself.
  bool matches(std::vector<int>& count, size_t x) const {
    const auto m = static_cast<size_t>(modulus_);
    --count[x];
    bool found = false;
    for (size_t y = 0; y < m && !found; ++y) {
      if (count[y] == 0) continue;
      const size_t z = (2 * m - x - y) % m;
      found = z == y ? count[y] > 1 : count[z] > 0;
    }
    ++count[x];
    return found;
  }
  int64_t length_ = 3, modulus_ = 2;
};
FOVEA_TRAIN_PART(Generator, "match3", Match3);

}  // namespace
}  // namespace fovea::train
