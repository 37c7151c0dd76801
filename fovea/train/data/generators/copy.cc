// copy: "length" random symbols, the last id of the vocabulary as a mark, and the symbols again, which are learned.
#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

class Copy final : public Generator {
 public:
  Copy(Settings& settings, const Context& context)
      : Generator(settings, context),
        length_(settings.integer("length", std::max<int64_t>(1, context.context / 2), 1,
                                 std::max<int64_t>(1, context.context / 2))),
        symbols_(settings.integer("symbols", context.vocab_size - 1, 1, context.vocab_size - 1)),
        mark_(static_cast<int32_t>(context.vocab_size - 1)) {
    if (context.context < 2) settings.wrong("generator", "copy needs a context of 2 or more");
  }

 private:
  Sample draw(Rng& rng) const override {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < length_; ++i)
      ids.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(symbols_))));
    ids.push_back(mark_);
    for (int64_t i = 0; i < length_; ++i) ids.push_back(ids[static_cast<size_t>(i)]);
    Sample sample = Sample::next_token(std::move(ids));
    std::fill_n(sample.targets.begin(), length_, kNoTarget);
    return sample;
  }
  int64_t length_, symbols_;
  int32_t mark_;
};
FOVEA_TRAIN_PART(Generator, "copy", Copy);

}  // namespace
}  // namespace fovea::train
