#include "fovea/tensor/ops/product/matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/tensor/ops/loss/cross_entropy.h"
#include "fovea/tensor/ops/math/add.h"
#include "fovea/tensor/ops/math/silu.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/ops/norm/rms_norm.h"
#include "fovea/tensor/ops/shape/embed.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/quantized_matrix.h"

namespace fovea::tensor {
namespace matmul_test {

// Doubles, in plain loops.
std::vector<double> product(const Tensor& x, const Tensor& w) {
  std::vector<double> y;
  for (int64_t t = 0; t < x.dim(0); ++t) {
    for (int64_t r = 0; r < w.dim(0); ++r) {
      double sum = 0;
      for (int64_t c = 0; c < x.dim(1); ++c)
        sum += static_cast<double>(x.data()[t * x.dim(1) + c]) * w.data()[r * x.dim(1) + c];
      y.push_back(sum);
    }
  }
  return y;
}

TEST(Matmul, IsThePlainProductAtEverySizeAroundAPanel) {
  for (const int64_t n : {1, 2, 5, 70}) {
    for (const int64_t rows : {1, 15, 16, 17, 40, 333}) {
      for (const int64_t cols : {1, 31, 32, 100}) {
        const Tensor x = random_tensor({n, cols}, 1), w = random_tensor({rows, cols}, 2);
        const Tensor y = matmul(x, Weight::from("w", w));
        const std::vector<double> expected = product(x, w);
        for (int64_t i = 0; i < y.elements(); ++i)  // float32 sums of up to 100 products near 1
          ASSERT_NEAR(y.data()[i], expected[static_cast<size_t>(i)], 2e-5) << n << " " << rows << " " << cols;
      }
    }
  }
}

TEST(Matmul, AddsTheBiasToEveryToken) {
  const Tensor x = Tensor::from({2, 1}, std::vector<float>{1, 2});
  const Weight w = Weight::from("w", Tensor::from({2, 1}, std::vector<float>{10, 20}));
  const Weight bias = Weight::from("b", Tensor::from({2}, std::vector<float>{0.5f, 0.25f}));
  const Tensor y = matmul(x, w, bias);
  EXPECT_EQ(y.data()[0], 10.5f);
  EXPECT_EQ(y.data()[1], 20.25f);
  EXPECT_EQ(y.data()[3], 40.25f);
}

TEST(Matmul, RefusesWhatDoesNotFit) {
  const Weight w = Weight::from("w", Tensor::zeros({2, 3}));
  EXPECT_THROW(matmul(Tensor::zeros({1, 2}), w), CheckFailed);
  EXPECT_THROW(matmul(Tensor::zeros({1, 3}), Weight()), CheckFailed);
  EXPECT_THROW(matmul(Tensor::zeros({1, 3}), w, Weight::from("b", Tensor::zeros({3}))), CheckFailed);
}

TEST(Matmul, NoTokensGiveAnEmptyTensor) {
  EXPECT_EQ(matmul(Tensor::zeros({0, 3}), Weight::from("w", Tensor::zeros({2, 3}))).shape(), Shape({0, 2}));
}

TEST(Matmul, GradientMeetsFiniteDifferences) {
  const Tensor x = random_tensor({3, 5}, 3), w = random_tensor({18, 5}, 4), b = random_tensor({18}, 5);
  const auto compute = [&] { return matmul(x, Weight::from("w", w), Weight::from("b", b)); };
  expect_gradients({x, w, b}, compute);
  expect_gradients({w}, compute);
}

TEST(Matmul, GradientsAddUpOverTwoUsesOfAWeight) {
  const Tensor x = random_tensor({3, 4}, 6), w = random_tensor({4, 4}, 7);
  expect_gradients({x, w}, [&] { return matmul(matmul(x, Weight::from("w", w)), Weight::from("w", w)); });
}

TEST(Matmul, GradientOfAWeightTallerThanAStepOfBackward) {
  const Tensor x = random_tensor({2, 3}, 8), w = random_tensor({1100, 3}, 9);
  expect_gradients({x}, [&] { return matmul(x, Weight::from("w", w)); });
}

TEST(Matmul, GradientToAWeightTallerThanAStepOfBackward) {
  const Tensor x = random_tensor({2, 3}, 8), w = random_tensor({1100, 3}, 9);
  const std::vector<int32_t> targets = {1090, 5};
  Tape tape;
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  tape.watch(w);
  const Tensor y = matmul(x, Weight::from("w", w));
  tape.watch(y);
  tape.backward(cross_entropy(y, targets).mean());
  const float* dy = tape.grad(y).data();
  for (int64_t r = 0; r < 1100; ++r) {
    for (int64_t c = 0; c < 3; ++c) {
      const float expected = dy[r] * x.data()[c] + dy[1100 + r] * x.data()[3 + c];
      ASSERT_NEAR(tape.grad(w).data()[r * 3 + c], expected, 1e-6) << r << ", " << c;
    }
  }
}

TEST(Matmul, GradientPassesThroughAFrozenWeight) {
  const Tensor x = random_tensor({2, 3}, 10), values = random_tensor({5, 3}, 11);
  Weight frozen = Weight::from("w", values);
  frozen.value = Tensor();
  expect_gradients({x}, [&] { return matmul(x, frozen); });
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::equal(a.values().begin(), a.values().end(), b.values().begin());
}

TEST(MatmulQuantized, ExactIsTheProductOfTheDequantisedWeight) {
  const QuantizedMatrix w(50, 96, 1);
  const Tensor x = random_tensor({5, 96}, 2), values = weight_values(w.weight);
  const Tensor y = matmul(x, w.weight);
  const std::vector<double> expected = product(x, values);
  for (int64_t i = 0; i < y.elements(); ++i) ASSERT_NEAR(y.data()[i], expected[static_cast<size_t>(i)], 2e-5);
}

TEST(MatmulQuantized, FastIsNearAndPackedOrNotGivesTheSameBits) {
  for (const int64_t n : {1, 3, 200}) {
    QuantizedMatrix w(70, 256, 3);
    const Tensor x = random_tensor({n, 256}, 4), values = weight_values(w.weight);
    const std::vector<double> expected = product(x, values);
    Arena arena;
    Exec exec{.arena = &arena};
    ExecScope scope(exec);
    const Tensor y = matmul(x, w.weight);
    // int8 activations: each off by up to 1/254 of its block's largest, some 0.006 in the mean square
    // times a row norm near 5; six deviations of 0.03.
    for (int64_t i = 0; i < y.elements(); ++i) ASSERT_NEAR(y.data()[i], expected[static_cast<size_t>(i)], 0.2) << n;
    EXPECT_GT(pack_weight(w.weight), 0u);
    EXPECT_EQ(pack_weight(w.weight), 0u);  // once is enough
    EXPECT_TRUE(same_bits(matmul(x, w.weight), y));
  }
}

TEST(MatmulQuantized, ProductsOfOneJobGiveTheBitsOfEachAlone) {
  for (const int64_t n : {1, 8, 200}) {
    QuantizedMatrix a(70, 256, 3), b(600, 256, 4), c(600, 256, 5);
    pack_weight(c.weight);
    const Tensor x = random_tensor({n, 256}, 6), residual = random_tensor({n, 600}, 7);
    const Weight bias = Weight::from("b", random_tensor({600}, 8)), none;
    Arena arena;
    Exec exec{.arena = &arena};
    ExecScope scope(exec);
    const auto y = matmuls(x, {{a.weight, none}, {b.weight, bias}, {c.weight, none}});
    EXPECT_TRUE(same_bits(y[0], matmul(x, a.weight))) << n;
    EXPECT_TRUE(same_bits(y[1], matmul(x, b.weight, bias))) << n;
    EXPECT_TRUE(same_bits(y[2], matmul(x, c.weight))) << n;
    EXPECT_TRUE(same_bits(matmul_add(residual, x, b.weight), add(residual, matmul(x, b.weight)))) << n;
    EXPECT_TRUE(same_bits(matmul_swiglu(x, b.weight, c.weight), swiglu(matmul(x, b.weight), y[2]))) << n;
    EXPECT_TRUE(same_bits(matmul_add(residual, x, {b.weight, bias}, 0.3f), add(residual, affine(y[1], 0.3f)))) << n;
    for (const Activation act : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh}) {
      EXPECT_TRUE(same_bits(matmul_gated(x, {b.weight, bias}, {c.weight, none}, act), gated(y[1], y[2], act))) << n;
      EXPECT_TRUE(same_bits(matmul_activated(x, {b.weight, bias}, act), activate(y[1], act))) << n;
      const Tensor h = matmul_activated(x, {b.weight, bias}, act, Next::kProducts);
      EXPECT_TRUE(same_bits(h, activate(y[1], act))) << n;
    }
  }
}

TEST(MatmulQuantized, AFormMadeWithItsXGivesTheBitsOfOneMadeAfterInOneJobLess) {
  for (const int64_t n : {1, 8, 300}) {
    QuantizedMatrix a(70, 256, 3), gate(608, 256, 4), up(608, 256, 5), down(70, 608, 6);
    const Tensor x = random_tensor({n, 256}, 7);
    const Weight norm = Weight::from("norm", random_tensor({256}, 8)), none;
    Arena arena;
    Exec exec{.arena = &arena};
    ExecScope scope(exec);
    const auto after = [&](Next of_norm, Next of_swiglu) {
      for (const uint64_t seed : {9, 10})  // no form holds what an earlier round left
        matmuls(random_tensor({n, 608}, seed), {{down.weight, none, true}});
      const Tensor h = rms_norm(x, norm, 1e-5f, of_norm);
      const auto y = matmuls(h, {{a.weight, none}, {a.weight, none, true}});
      const Tensor wide = matmul_swiglu(h, gate.weight, up.weight, of_swiglu);
      const uint64_t before = pool().n_jobs();
      const Tensor last = matmul(wide, down.weight);
      return std::tuple(y[0], y[1], wide, last, pool().n_jobs() - before);
    };
    const auto plain = after(Next::kAnything, Next::kAnything);
    for (const Next of_norm : {Next::kProducts, Next::kFineProducts}) {
      const auto with = after(of_norm, Next::kProducts);
      EXPECT_TRUE(same_bits(std::get<0>(with), std::get<0>(plain))) << n;
      EXPECT_TRUE(same_bits(std::get<1>(with), std::get<1>(plain))) << n;
      EXPECT_TRUE(same_bits(std::get<2>(with), std::get<2>(plain))) << n;
      EXPECT_TRUE(same_bits(std::get<3>(with), std::get<3>(plain))) << n;
      if (n == 300 && pool().size() > 1) {
        EXPECT_EQ(std::get<4>(with), std::get<4>(plain) - 1);
      }
    }
  }
}

TEST(MatmulQuantized, AFineProductIsAHundredTimesNearerAndTheSameBitsInAnyCompany) {
  for (const int64_t n : {1, 8, 200}) {
    QuantizedMatrix a(70, 256, 3), b(600, 256, 4);
    const Tensor x = random_tensor({n, 256}, 6);
    const Weight bias = Weight::from("b", random_tensor({600}, 8)), none;
    const Tensor exact = matmul(x, b.weight, bias);
    Arena arena;
    Exec exec{.arena = &arena};
    ExecScope scope(exec);
    const Tensor coarse = matmul(x, b.weight, bias);
    const auto y = matmuls(x, {{a.weight, none}, {b.weight, bias, true}});
    EXPECT_TRUE(same_bits(y[0], matmul(x, a.weight))) << n;
    double far = 0, near = 0;
    for (int64_t i = 0; i < exact.elements(); ++i) {
      far += std::abs(coarse.data()[i] - exact.data()[i]), near += std::abs(y[1].data()[i] - exact.data()[i]);
    }
    EXPECT_LT(near, far / 100) << n;  // int8 twice leaves 1 / 254 of its error, and floats round
    Tensor last = Tensor::empty({1, 256});
    std::copy_n(x.data() + (n - 1) * 256, 256, last.data());
    const Tensor alone = matmuls(last, {{b.weight, bias, true}})[0];
    EXPECT_TRUE(std::equal(alone.data(), alone.data() + 600, y[1].data() + (n - 1) * 600)) << n;
  }
}

TEST(Matmul, GradientsPassThroughProductsOfOneJob) {
  const Tensor x = random_tensor({3, 5}, 3), w = random_tensor({18, 5}, 4), v = random_tensor({18, 5}, 5),
               residual = random_tensor({3, 18}, 6);
  const Weight none;
  expect_gradients({x, w, v}, [&] {
    const auto y = matmuls(x, {{Weight::from("w", w), none}, {Weight::from("v", v), none}});
    return add(y[0], y[1]);
  });
  expect_gradients({x, w, residual}, [&] { return matmul_add(residual, x, Weight::from("w", w)); });
  expect_gradients({x, w, v}, [&] { return matmul_swiglu(x, Weight::from("w", w), Weight::from("v", v)); });
  const Tensor b = random_tensor({18}, 7);
  const Weight bias = Weight::from("b", b);
  expect_gradients({x, w, residual, b}, [&] { return matmul_add(residual, x, {Weight::from("w", w), bias}, 0.3f); });
  expect_gradients({x, w, v, b}, [&] {
    return matmul_gated(x, {Weight::from("w", w), bias}, {Weight::from("v", v), none}, Activation::kGelu);
  });
  expect_gradients({x, w, b}, [&] { return matmul_activated(x, {Weight::from("w", w), bias}, Activation::kGeluTanh); });
}

TEST(Matmul, ProductsOfOneJobRefuseWhatDoesNotFit) {
  const Weight w = Weight::from("w", Tensor::zeros({2, 3})), tall = Weight::from("t", Tensor::zeros({4, 3}));
  EXPECT_THROW(matmul_add(Tensor::zeros({1, 3}), Tensor::zeros({1, 3}), w), CheckFailed);
  EXPECT_THROW(matmul_swiglu(Tensor::zeros({1, 3}), w, tall), CheckFailed);
}

TEST(MatmulQuantized, AWeightToBePackedLaterIsPackedAtItsSecondProductOrAtALongOne) {
  Arena arena;
  Exec exec{.arena = &arena};
  ExecScope scope(exec);
  for (const int64_t n : {3, 200}) {
    QuantizedMatrix plain(70, 256, 3), later(70, 256, 3);
    const Tensor x = random_tensor({n, 256}, 4);
    const Tensor y = matmul(x, plain.weight);
    EXPECT_GT(pack_weight_later(later.weight), 0u);
    EXPECT_EQ(pack_weight_later(later.weight), 0u);
    EXPECT_EQ(later.weight.packed->data(), nullptr);
    EXPECT_TRUE(same_bits(matmul(x, later.weight), y));
    EXPECT_EQ(later.weight.packed->data() != nullptr, n > 128) << n;
    EXPECT_TRUE(same_bits(matmul(x, later.weight), y));
    EXPECT_NE(later.weight.packed->data(), nullptr);
    EXPECT_TRUE(same_bits(matmul(x, later.weight), y));
  }
}

TEST(MatmulQuantized, ExactArithmeticNeverPacks) {
  QuantizedMatrix w(32, 64, 5);
  pack_weight_later(w.weight);
  const Tensor x = random_tensor({200, 64}, 4);
  for (int i = 0; i < 3; ++i) matmul(x, w.weight);
  EXPECT_EQ(w.weight.packed->data(), nullptr);
}

TEST(MatmulQuantized, PackingSaysOfEveryRowOnceThatItIsDone) {
  constexpr int64_t kRows = 40'003, kCols = 256;  // 10.9 MB: in two steps
  QuantizedMatrix w(kRows, kCols, 5);
  const auto* next = static_cast<const std::byte*>(w.weight.view.data);
  const auto* end = next + kRows * kCols / 32 * 34;
  int steps = 0;
  pack_weight_later(w.weight, [&](std::span<const std::byte> rows) {
    EXPECT_EQ(rows.data(), next);
    next = rows.data() + rows.size();
    ++steps;
  });
  EXPECT_GT(pack_weight(w.weight), 0u);
  EXPECT_EQ(next, end);
  EXPECT_EQ(steps, 2);
}

TEST(MatmulQuantized, LookingUpManyRowsOfAPackedTableSaysThatItIsDoneAgain) {
  QuantizedMatrix w(70, 256, 5);
  size_t bytes = 0;
  pack_weight_later(w.weight, [&](std::span<const std::byte> rows) { bytes += rows.size(); });
  const std::vector<int32_t> tokens(200, 69);
  embed(w.weight, tokens);
  EXPECT_EQ(bytes, 0u);  // the file's form is still what products read
  pack_weight(w.weight);
  const size_t whole = bytes;
  embed(w.weight, std::span(tokens).first(3));
  EXPECT_EQ(bytes, whole);
  embed(w.weight, tokens);
  EXPECT_EQ(bytes, 2 * whole);
}

TEST(MatmulQuantized, PackedBytesAreCountedWhileTheyLive) {
  const size_t before = packed_weight_bytes();
  {
    QuantizedMatrix w(64, 64, 5);
    const size_t taken = pack_weight(w.weight);
    EXPECT_EQ(packed_weight_bytes() - before, taken);
  }
  EXPECT_EQ(packed_weight_bytes(), before);
}

TEST(MatmulQuantized, EveryXIsQuantisedAfresh) {
  const QuantizedMatrix w(32, 64, 6);
  Arena arena;
  Exec exec{.arena = &arena};
  ExecScope scope(exec);
  Tensor first;
  for (int round = 0; round < 6; ++round) {  // the arena gives the same block to every x
    const Tensor x = random_tensor({2, 64}, 7 + static_cast<uint64_t>(round % 2));
    const Tensor y = matmul(x, w.weight);
    EXPECT_TRUE(same_bits(matmul(x, w.weight), y));
    if (round == 0) first = y;
    EXPECT_EQ(same_bits(first, y), round % 2 == 0) << round;
  }
}

TEST(MatmulQuantized, AViewOfTheSameValuesInAnotherShapeIsAnotherX) {
  const QuantizedMatrix narrow(32, 32, 8), wide(32, 64, 9);
  Exec exec;
  ExecScope scope(exec);
  const Tensor x = random_tensor({2, 64}, 10);
  const Tensor expected = matmul(random_tensor({2, 64}, 10).with_shape({4, 32}), narrow.weight);
  matmul(x, wide.weight);
  EXPECT_TRUE(same_bits(matmul(x.with_shape({4, 32}), narrow.weight), expected));
}

TEST(MatmulQuantized, ATokenGivesTheSameBitsAloneAndInABatch) {
  QuantizedMatrix w(100, 128, 11);
  Exec exec;
  ExecScope scope(exec);
  const Tensor x = random_tensor({300, 128}, 12);
  const Tensor batch = matmul(x, w.weight);
  for (const int64_t t : {0, 63, 64, 299}) {
    const Tensor one = Tensor::from({1, 128}, x.values().subspan(static_cast<size_t>(t * 128), 128));
    const Tensor y = matmul(one, w.weight);
    EXPECT_TRUE(std::equal(y.values().begin(), y.values().end(), batch.values().begin() + t * 100)) << t;
  }
}

TEST(MatmulQuantized, AGradientPassesThroughToX) {
  const QuantizedMatrix w(40, 32, 13);
  const Tensor x = random_tensor({2, 32}, 14);
  expect_gradients({x}, [&] { return matmul(x, w.weight); });
}

}  // namespace matmul_test
}  // namespace fovea::tensor
