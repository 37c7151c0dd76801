// modular: a OP b = c modulo "p" with OP one of + - *, as five tokens: a, p, b, p + 1, c, of which c is learned. A
// share "held_out" of all pairs (a, b) is left for "part": "test"; which ones depends on "split" alone. Power et al.,
// arXiv:2201.02177.
#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

class Modular final : public Generator {
 public:
  Modular(Settings& settings, const Context& context) : Generator(settings, context) {
    const std::string op = settings.one_of("op", "+", {"+", "-", "*"});
    const bool test = settings.one_of("part", "train", {"train", "test"}) == "test";
    const double held_out = settings.number("held_out", 0.5, 0, 0.999);
    op_ = op[0];
    if (context.vocab_size < 4 || context.context < 4) {
      settings.wrong("generator", "modular needs a context of 4 and a vocabulary of 4 or more");
      return;
    }
    p_ = settings.integer("p", std::min<int64_t>(97, context.vocab_size - 2), 2,
                          std::min<int64_t>(1000, context.vocab_size - 2));
    Rng rng(static_cast<uint64_t>(settings.integer("split", 0, 0, INT64_MAX)));
    for (int32_t pair = 0; pair < p_ * p_; ++pair) {
      if ((rng.uniform() < held_out) == test) pairs_.push_back(pair);
    }
    if (pairs_.empty()) settings.wrong("held_out", "leaves no pair for this part");
  }

 private:
  Sample draw(Rng& rng) const override {
    const int64_t pair = pairs_[rng.below(pairs_.size())], a = pair / p_, b = pair % p_;
    const int64_t c = (op_ == '+' ? a + b : op_ == '-' ? a - b + p_ : a * b) % p_;
    const auto id = [](int64_t x) { return static_cast<int32_t>(x); };
    return {{id(a), id(p_), id(b), id(p_ + 1)}, {kNoTarget, kNoTarget, kNoTarget, id(c)}};
  }
  char op_ = '+';
  int64_t p_ = 2;
  std::vector<int32_t> pairs_;
};
FOVEA_TRAIN_PART(Generator, "modular", Modular);

}  // namespace
}  // namespace fovea::train
