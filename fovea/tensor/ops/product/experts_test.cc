#include "fovea/tensor/ops/product/experts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <list>

#include "fovea/base/check.h"
#include "fovea/tensor/adapters.h"
#include "fovea/tensor/ops/reduce/softmax.h"
#include "fovea/tensor/ops/shape/copy.h"
#include "fovea/tensor/ops/shape/view.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/quantized_matrix.h"

namespace fovea::tensor {
namespace experts_test {

using ::testing::ElementsAre;

// Float32 experts, with biases.
struct Floats {
  std::vector<Tensor> values;
  std::vector<Expert> experts;

  Floats(int64_t n, int64_t d_model, int64_t d_ff) {
    for (int64_t e = 0; e < n; ++e) {
      const auto seed = static_cast<uint64_t>(10 * e);
      values.push_back(random_tensor({d_ff, d_model}, seed + 1, 0.3));
      values.push_back(random_tensor({d_ff, d_model}, seed + 2, 0.3));
      values.push_back(random_tensor({d_model, d_ff}, seed + 3, 0.3));
      values.push_back(random_tensor({d_ff}, seed + 4));
      values.push_back(random_tensor({d_ff}, seed + 5));
      values.push_back(random_tensor({d_model}, seed + 6));
    }
    bind();
  }
  void bind() {
    experts.clear();
    for (size_t at = 0; at < values.size(); at += 6) {
      const auto w = [&](size_t i) { return Weight::from("w", values[at + i]); };
      experts.push_back({w(0), w(1), w(2), w(3), w(4), w(5)});
    }
  }
};

// Doubles, in plain loops, token after token.
std::vector<double> plain(const Tensor& x, const Floats& by, const Routing& to) {
  const int64_t n = x.dim(0), d = x.dim(1), used = to.weights.dim(1), ff = by.values[0].dim(0);
  std::vector<double> y(static_cast<size_t>(n * d));
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t i = 0; i < used; ++i) {
      const auto at = static_cast<size_t>(6 * to.experts[static_cast<size_t>(t * used + i)]);
      std::vector<double> h;
      for (int64_t r = 0; r < ff; ++r) {
        double gate = by.values[at + 3].data()[r], up = by.values[at + 4].data()[r];
        for (int64_t c = 0; c < d; ++c) {
          gate += double{x.data()[t * d + c]} * by.values[at].data()[r * d + c];
          up += double{x.data()[t * d + c]} * by.values[at + 1].data()[r * d + c];
        }
        h.push_back(gate / (1 + std::exp(-gate)) * up);
      }
      for (int64_t r = 0; r < d; ++r) {
        double out = by.values[at + 5].data()[r];
        for (int64_t c = 0; c < ff; ++c) out += h[static_cast<size_t>(c)] * by.values[at + 2].data()[r * ff + c];
        y[static_cast<size_t>(t * d + r)] += double{to.weights.data()[t * used + i]} * out;
      }
    }
  }
  return y;
}

Routing some_routing(int64_t n, int64_t n_experts, int64_t used) {
  return route(softmax(random_tensor({n, n_experts}, 77, 2.0)), used, true);
}

TEST(Route, TakesTheLargestAndOfEqualsTheFirst) {
  const Tensor p = Tensor::from({3, 4}, std::vector<float>{0.1f, 0.4f, 0.2f, 0.3f,      //
                                                           0.25f, 0.25f, 0.25f, 0.25f,  //
                                                           0.2f, 0.3f, 0.2f, 0.3f});
  const Routing to = route(p, 2, false);
  EXPECT_THAT(to.experts, ElementsAre(1, 3, 0, 1, 1, 3));
  EXPECT_EQ(to.weights.data()[0], 0.4f);
  const Routing sums = route(p, 2, true);
  EXPECT_FLOAT_EQ(sums.weights.data()[0], 0.4f / 0.7f);
  EXPECT_FLOAT_EQ(sums.weights.data()[2], 0.5f);
  EXPECT_THAT(route(p, 4, false).experts, ElementsAre(1, 3, 2, 0, 0, 1, 2, 3, 1, 3, 0, 2));
  EXPECT_THROW(route(p, 5, false), CheckFailed);
}

TEST(Route, WhatIsNoNumberComesLast) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor p = Tensor::from({2, 4}, std::vector<float>{nan, 0.1f, nan, 0.2f, nan, nan, nan, nan});
  EXPECT_THAT(route(p, 3, false).experts, ElementsAre(3, 1, 0, 0, 1, 2));
}

TEST(MixExperts, IsTheWeighedSumOfTheirMlps) {
  const Floats by(5, 20, 12);
  for (const int64_t n : {1, 2, 40}) {
    for (const int64_t used : {1, 2, 5}) {
      const Tensor x = random_tensor({n, 20}, 3);
      const Routing to = some_routing(n, 5, used);
      const Tensor y = mix_experts(x, by.experts, to, Activation::kSilu);
      const std::vector<double> want = plain(x, by, to);
      for (int64_t i = 0; i < y.elements(); ++i)
        ASSERT_NEAR(y.data()[i], want[static_cast<size_t>(i)], 2e-5) << n << " " << used << " " << i;
    }
  }
}

// In both modes, also where an expert is chosen twice or by none.
TEST(MixExperts, ATokenGivesTheSameBitsAloneAndInABatch) {
  constexpr int64_t kExperts = 4, kModel = 64, kMlp = 96, kTokens = 23;
  std::list<QuantizedMatrix> matrices;
  std::vector<Expert> experts;
  for (uint64_t e = 0; e < kExperts; ++e) {
    Expert one;
    one.w_gate = matrices.emplace_back(kMlp, kModel, 3 * e).weight;
    one.w_up = matrices.emplace_back(kMlp, kModel, 3 * e + 1).weight;
    one.w_down = matrices.emplace_back(kModel, kMlp, 3 * e + 2).weight;
    experts.push_back(one);
  }
  const Tensor x = random_tensor({kTokens, kModel}, 9);
  Routing to = some_routing(kTokens, kExperts - 1, 2);
  to.experts[0] = to.experts[1] = 2;
  for (const Numerics numerics : {Numerics::kExact, Numerics::kFast}) {
    for (const bool packed : {false, true}) {
      for (Expert& e : experts) {
        for (Weight* w : {&e.w_gate, &e.w_up, &e.w_down}) {
          if (packed) pack_weight(*w);
        }
      }
      Exec exec{.numerics = numerics};
      ExecScope scope(exec);
      const Tensor all = mix_experts(x, experts, to, Activation::kSilu);
      for (int64_t t = 0; t < kTokens; ++t) {
        const Routing mine{slice(to.weights, 0, t, t + 1),
                           {to.experts.begin() + 2 * t, to.experts.begin() + 2 * t + 2}};
        const Tensor one = mix_experts(slice(x, 0, t, t + 1), experts, mine, Activation::kSilu);
        for (int64_t i = 0; i < kModel; ++i) ASSERT_EQ(one.data()[i], all.data()[t * kModel + i]) << t << " " << i;
      }
    }
  }
}

TEST(MixExperts, GradientsMeetFiniteDifferences) {
  Floats by(3, 4, 5);
  const Tensor x = random_tensor({4, 4}, 1), logits = random_tensor({4, 3}, 2, 2.0);
  std::vector<Tensor> inputs = by.values;
  inputs.push_back(x), inputs.push_back(logits);
  expect_gradients(inputs, [&] {
    by.bind();
    return mix_experts(x, by.experts, route(softmax(logits), 2, true), Activation::kSilu);
  });
}

TEST(MixExperts, AnAdapterOfOneExpertChangesTheTokensThatGoThere) {
  const Floats by(3, 8, 6);
  const Tensor x = random_tensor({3, 8}, 1);
  const Routing to{Tensor::from({3, 1}, std::vector<float>{1, 1, 1}), {0, 1, 2}};
  const Tensor before = mix_experts(x, by.experts, to, Activation::kSilu);
  Adapters adapters;
  const Lora lora{random_tensor({2, 8}, 5), random_tensor({6, 2}, 6)};
  ASSERT_TRUE(adapters.add(by.experts[1].w_up, lora).has_value());
  Exec exec{.numerics = Numerics::kExact, .adapters = &adapters};
  ExecScope scope(exec);
  const Tensor after = mix_experts(x, by.experts, to, Activation::kSilu);
  for (int64_t i = 0; i < after.elements(); ++i) {
    const bool adapted = i / 8 == 1;
    if (adapted) {
      EXPECT_NE(after.data()[i], before.data()[i]) << i;
    } else {
      EXPECT_EQ(after.data()[i], before.data()[i]) << i;
    }
  }
}

TEST(MixExperts, RefusesWhatDoesNotFit) {
  const Floats by(2, 4, 3);
  const Tensor x = random_tensor({2, 4}, 1), ones = Tensor::from({2, 1}, std::vector<float>{1, 1});
  EXPECT_THROW(mix_experts(x, by.experts, {ones, {0, 2}}, Activation::kSilu), CheckFailed);
  EXPECT_THROW(mix_experts(x, by.experts, {ones, {0, -1}}, Activation::kSilu), CheckFailed);
  EXPECT_THROW(mix_experts(x, by.experts, {ones, {0}}, Activation::kSilu), CheckFailed);
  EXPECT_THROW(mix_experts(random_tensor({2, 5}, 1), by.experts, {ones, {0, 1}}, Activation::kSilu), CheckFailed);
  EXPECT_EQ(mix_experts(Tensor::zeros({0, 4}), by.experts, {Tensor::zeros({0, 1}), {}}, Activation::kSilu).shape(),
            Shape({0, 4}));
}

}  // namespace experts_test
}  // namespace fovea::tensor
