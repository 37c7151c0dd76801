// uniform: ids drawn from the whole vocabulary (or the first "symbols" of it): nothing can be learned, speed can be
// measured.
#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

class Uniform final : public Generator {
 public:
  Uniform(Settings& settings, const Context& context)
      : Generator(settings, context),
        n_(context.context + 1),
        symbols_(settings.integer("symbols", context.vocab_size, 1, context.vocab_size)) {}

 private:
  Sample draw(Rng& rng) const override {
    std::vector<int32_t> ids(static_cast<size_t>(n_));
    for (int32_t& id : ids) id = static_cast<int32_t>(rng.below(static_cast<uint64_t>(symbols_)));
    return Sample::next_token(std::move(ids));
  }
  int64_t n_, symbols_;
};
FOVEA_TRAIN_PART(Generator, "uniform", Uniform);

}  // namespace
}  // namespace fovea::train
