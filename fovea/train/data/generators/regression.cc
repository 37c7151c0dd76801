// regression: in-context regression. Each sample has a linear function of its own, y = W x. Pixels [1, "examples" + 1,
// "inputs" + "outputs"]: a row (x, y) for each example, and a last one (x, 0); what is wanted there stands in `noise`
// where the mask is 1. x is uniform within -"range" to "range"; W has deviation "scale"; "noise" is the deviation of
// what is added to the examples' y. "shuffled": each gets another's y, and nothing can be learned. The defaults are
// those of von Oswald et al., arXiv:2212.07677, whose code draws x within 0.5 (the text says 1).
#include <utility>

#include "fovea/train/data/data.h"
#include "fovea/train/data/generators/bell.h"

namespace fovea::train {
namespace {

class Regression final : public Generator {
 public:
  Regression(Settings& s, const Context& context)
      : Generator(s, context),
        inputs_(s.integer("inputs", 10, 1, 512)),
        outputs_(s.integer("outputs", 1, 1, 64)),
        examples_(s.integer("examples", 10, 1, 4096)),
        range_(static_cast<float>(s.number("range", 0.5, 1e-3, 1e3))),
        scale_(static_cast<float>(s.number("scale", 1, 0, 1e3))),
        noise_(static_cast<float>(s.number("noise", 0, 0, 1e3))),
        shuffled_(s.flag("shuffled", false)) {}

 private:
  Sample draw(Rng& rng) const override {
    const auto in = static_cast<size_t>(inputs_), out = static_cast<size_t>(outputs_),
               n = static_cast<size_t>(examples_), width = in + out;
    auto picture = std::make_shared<Picture>();
    picture->channels = 1, picture->height = examples_ + 1, picture->width = inputs_ + outputs_;
    picture->pixels.resize((n + 1) * width);
    picture->noise.resize((n + 1) * width);
    picture->mask.resize((n + 1) * width);
    std::vector<float> w(out * in);
    for (float& one : w) one = static_cast<float>(double{scale_} * bell(rng));
    for (size_t row = 0; row <= n; ++row) {
      float* x = &picture->pixels[row * width];
      for (size_t k = 0; k < in; ++k) x[k] = static_cast<float>(double{range_} * (rng.uniform() * 2 - 1));
      for (size_t o = 0; o < out; ++o) {
        double y = 0;  // products of floats are exact: the sum is the same with and without fused multiplication
        for (size_t k = 0; k < in; ++k) y += double{w[o * in + k]} * double{x[k]};
        if (row < n) {
          x[in + o] = static_cast<float>(y + double{static_cast<float>(double{noise_} * bell(rng))});
        } else {
          picture->noise[row * width + in + o] = static_cast<float>(y);
          picture->mask[row * width + in + o] = 1;
        }
      }
    }
    for (size_t row = n; shuffled_ && row > 1; --row) {  // a cycle (Sattolo): none keeps its own
      const auto other = static_cast<size_t>(rng.below(row - 1));
      for (size_t o = in; o < width; ++o)
        std::swap(picture->pixels[(row - 1) * width + o], picture->pixels[other * width + o]);
    }
    Sample sample;
    sample.picture = std::move(picture);
    return sample;
  }
  int64_t inputs_, outputs_, examples_;
  float range_, scale_, noise_;
  bool shuffled_;
};
FOVEA_TRAIN_PART(Generator, "regression", Regression);

}  // namespace
}  // namespace fovea::train
