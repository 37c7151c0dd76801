#include "fovea/tensor/ops/train/checkpoint.h"

#include <gtest/gtest.h>

#include "fovea/tensor/ops/math/add.h"
#include "fovea/tensor/ops/math/mul.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/ops/reduce/reduce.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace checkpoint_test {

// Eight steps of a chain that all read `w`, each plain or run again.
struct Chain {
  Tensor x = random_tensor({64, 64}, 1), w = random_tensor({64, 64}, 2);

  Tensor step(const Tensor& h) const { return add(h, mul(w, tanh(mul(exp(affine(h, -0.1f)), tanh(mul(w, h)))))); }
  Tensor run(bool again) const {
    Tensor h = x;
    for (int i = 0; i < 8; ++i) h = again ? checkpoint(h, [this](const Tensor& in) { return step(in); }) : step(h);
    return h;
  }
  struct Gradients {
    std::vector<float> x, w;
    size_t peak;
  };
  Gradients gradients(bool again, bool watch_x = true) const {
    Arena arena;
    Tape tape;
    if (watch_x) tape.watch(x);
    tape.watch(w);
    Exec exec{.arena = &arena, .tape = &tape};
    ExecScope scope(exec);
    tape.backward(sum(run(again)));
    const auto values = [](const Tensor& t) { return std::vector<float>(t.values().begin(), t.values().end()); };
    return {watch_x ? values(tape.grad(x)) : std::vector<float>(), values(tape.grad(w)), arena.peak_bytes()};
  }
};

TEST(Checkpoint, GradientsAreThoseOfThePlainTapeBitForBit) {
  const Chain chain;
  const Chain::Gradients plain = chain.gradients(false), again = chain.gradients(true);
  EXPECT_EQ(again.x, plain.x);
  EXPECT_EQ(again.w, plain.w);
  EXPECT_EQ(chain.gradients(true, /*watch_x=*/false).w, plain.w) << "what is watched may be inside alone";
}

TEST(Checkpoint, KeepsTheInputsOfItsStepsOnly) {
  const Chain chain;
  const size_t plain = chain.gradients(false).peak, again = chain.gradients(true).peak;
  EXPECT_LT(again, plain / 2);
}

TEST(Checkpoint, WithoutATapeItIsTheFunction) {
  const Chain chain;
  const Tensor y = chain.run(true), plain = chain.run(false);
  EXPECT_TRUE(std::equal(y.values().begin(), y.values().end(), plain.values().begin()));
}

TEST(Checkpoint, GraphsThatAreKeptRunTwice) {
  const Chain chain;
  Tape tape;
  tape.watch(chain.w);
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  const Tensor loss = sum(chain.run(true));
  tape.backward(loss, {}, /*keep_graph=*/true);
  const float once = tape.grad(chain.w).data()[5];
  tape.backward(loss);
  EXPECT_FLOAT_EQ(tape.grad(chain.w).data()[5], 2 * once);  // the sums have another order
}

}  // namespace checkpoint_test
}  // namespace fovea::tensor
