// induction: "length" random symbols, again and again until the context is full. From the second round on the next one
// can be known, and is learned: what needs heads that look for what followed last time (Olsson et al.,
// arXiv:2209.11895). "length" may be drawn anew for each sample, up to the one given, with "vary": true.
#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

class Induction final : public Generator {
 public:
  Induction(Settings& settings, const Context& context)
      : Generator(settings, context),
        n_(context.context + 1),
        length_(settings.integer("length", std::max<int64_t>(1, n_ / 2), 1, std::max<int64_t>(1, n_ - 2))),
        symbols_(settings.integer("symbols", context.vocab_size, 2, context.vocab_size)),
        vary_(settings.flag("vary", false)) {
    if (context.context < 2) settings.wrong("generator", "induction needs a context of 2 or more");
  }

 private:
  Sample draw(Rng& rng) const override {
    const int64_t length = vary_ ? 1 + static_cast<int64_t>(rng.below(static_cast<uint64_t>(length_))) : length_;
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < n_; ++i)
      ids.push_back(i < length ? static_cast<int32_t>(rng.below(static_cast<uint64_t>(symbols_)))
                               : ids[static_cast<size_t>(i - length)]);
    Sample sample = Sample::next_token(std::move(ids));
    std::fill_n(sample.targets.begin(), std::min(n_ - 1, length), kNoTarget);
    return sample;
  }
  int64_t n_, length_, symbols_;
  bool vary_;
};
FOVEA_TRAIN_PART(Generator, "induction", Induction);

}  // namespace
}  // namespace fovea::train
