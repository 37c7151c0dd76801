#include "fovea/tensor/adapters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>
#include <vector>

#include "fovea/tensor/ops/ops.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/tensor/testing/quantized_matrix.h"

namespace fovea::tensor {
namespace adapters_test {

using testing::HasSubstr;

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::equal(a.values().begin(), a.values().end(), b.values().begin());
}
// Float32 sums of some dozens of products near 1, in another order.
void expect_near(const Tensor& a, const Tensor& b, double most = 3e-5) {
  ASSERT_EQ(a.shape(), b.shape());
  for (int64_t i = 0; i < a.elements(); ++i) ASSERT_NEAR(a.data()[i], b.data()[i], most) << i;
}

// What stands for w, made by hand in one float32 matrix: mask, rows, then the Loras.
Tensor merged(const Tensor& w, const Adapter& adapter) {
  Tensor m = Tensor::from(w.shape(), w.values());
  const int64_t rows = w.dim(0), cols = w.dim(1);
  if (const Mask& mask = adapter.mask; mask.values.defined()) {
    for (int64_t i = 0; i < m.elements(); ++i)
      m.data()[i] *= mask.scores ? static_cast<float>(mask.values.data()[i] > 0) : mask.values.data()[i];
  }
  for (const Rows& some : adapter.rows) {
    for (int64_t i = 0; i < some.values.elements(); ++i) {
      float& at = m.data()[some.begin * cols + i];
      at = (some.replace ? 0 : at) + some.values.data()[i];
    }
  }
  for (const Lora& lora : adapter.loras) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        double sum = 0;
        for (int64_t i = 0; i < lora.a.dim(0); ++i)
          sum += static_cast<double>(lora.b.data()[r * lora.a.dim(0) + i]) * lora.a.data()[i * cols + c];
        m.data()[r * cols + c] += static_cast<float>(lora.scale * sum);
      }
    }
  }
  return m;
}

Lora lora(int64_t rows, int64_t cols, int64_t rank, uint64_t seed) {
  return {random_tensor({rank, cols}, seed, 0.3), random_tensor({rows, rank}, seed + 1, 0.3), 0.5f};
}

// A small weight of each way to change it, and all ways together.
struct Case {
  std::string name;
  std::vector<Tensor> tensors;  // those of the adapter
  Adapters adapters;
};
std::vector<Case> cases(const Weight& w) {
  const int64_t rows = w.rows(), cols = w.cols();
  const Lora odd = lora(rows, cols, 3, 40);
  const Mask mask{random_tensor({rows, cols}, 42)};
  const Rows added{random_tensor({2, cols}, 43), 1}, replaced{random_tensor({rows - 3, cols}, 44), 2, true};
  std::vector<Case> all(5);
  all[0].name = "lora", all[1].name = "mask", all[2].name = "rows added", all[3].name = "rows replaced";
  all[4].name = "all";
  const auto give = [&w](Case& to, const auto& adapter) {
    const Status status = to.adapters.add(w, adapter);
    EXPECT_TRUE(status) << status.error().message;
  };
  for (Case& one : all) {
    const bool every = one.name == "all";
    if (every || one.name == "lora") give(one, odd), one.tensors.insert(one.tensors.end(), {odd.a, odd.b});
    if (every || one.name == "mask") give(one, mask), one.tensors.push_back(mask.values);
    if (every || one.name == "rows added") give(one, added), one.tensors.push_back(added.values);
    if (every || one.name == "rows replaced") give(one, replaced), one.tensors.push_back(replaced.values);
  }
  return all;
}

TEST(Adapters, EveryProductIsThatOfTheMergedWeight) {
  const Tensor values = random_tensor({33, 20}, 1), up_values = random_tensor({33, 20}, 2);
  const Weight w = Weight::from("w", values), up = Weight::from("up", up_values);
  const Weight bias = Weight::from("b", random_tensor({33}, 3));
  const Tensor residual = random_tensor({9, 33}, 4), x = random_tensor({9, 20}, 5);
  for (Case& one : cases(w)) {
    SCOPED_TRACE(one.name);
    const Weight other = Weight::from("merged", merged(values, *one.adapters.find(w)));
    Exec exec{.numerics = Numerics::kExact, .adapters = &one.adapters};
    ExecScope scope(exec);
    expect_near(matmul(x, w), matmul(x, other));
    expect_near(matmul(x, w, bias), matmul(x, other, bias));
    expect_near(matmul_add(residual, x, w), matmul_add(residual, x, other));
    const auto y = matmuls(x, {{w, bias}, {up, bias}});
    expect_near(y[0], matmul(x, other, bias));
    EXPECT_TRUE(same_bits(y[1], matmul(x, up, bias)));
    // silu(a) * b with a and b near 5
    expect_near(matmul_swiglu(x, w, up), matmul_swiglu(x, other, up), 5e-4);
    expect_near(matmul_swiglu(x, up, w), matmul_swiglu(x, up, other), 5e-4);
    const std::vector<int32_t> tokens = {0, 32, 2, 2, 5, 31, 1};
    expect_near(embed(w, tokens), embed(other, tokens));
  }
}

TEST(Adapters, ATokenHasTheSameBitsAloneAndInABatch) {
  const QuantizedMatrix w(48, 64, 1);
  const Tensor x = random_tensor({70, 64}, 2);
  for (Case& one : cases(w.weight)) {
    SCOPED_TRACE(one.name);
    Exec exec{.adapters = &one.adapters};
    ExecScope scope(exec);
    const Tensor all = matmul(x, w.weight);
    for (const int64_t t : {0, 7, 69})
      EXPECT_TRUE(same_bits(matmul(slice(x, 0, t, t + 1), w.weight), slice(all, 0, t, t + 1))) << t;
  }
}

TEST(Adapters, GradientsMeetFiniteDifferences) {
  const Weight w = Weight::from("w", random_tensor({6, 5}, 1)), up = Weight::from("up", random_tensor({6, 5}, 2));
  const Tensor x = random_tensor({3, 5}, 3), bias = random_tensor({6}, 4), residual = random_tensor({3, 6}, 5);
  for (Case& one : cases(w)) {
    SCOPED_TRACE(one.name);
    const auto with = [&](auto&& product) {  // the scope of the check, with the adapters
      return [&, product] {
        Exec exec = *Exec::current();
        exec.adapters = &one.adapters;
        ExecScope scope(exec);
        return product();
      };
    };
    std::vector<Tensor> inputs = one.tensors;
    inputs.insert(inputs.end(), {x, w.value, bias, residual});
    expect_gradients(inputs,
                     with([&] { return matmul_add(add(residual, matmul(x, w, Weight::from("b", bias))), x, w); }));
    expect_gradients(one.tensors, with([&] { return matmul_swiglu(x, up, w); }));
    expect_gradients(one.tensors, with([&] { return embed(w, std::vector<int32_t>{3, 1, 3, 5}); }));
  }
}

TEST(Adapters, GradientsPassAFrozenQuantisedWeight) {
  const QuantizedMatrix w(7, 32, 1);
  const Tensor x = random_tensor({2, 32}, 2);
  for (Case& one : cases(w.weight)) {
    SCOPED_TRACE(one.name);
    std::vector<Tensor> inputs = one.tensors;
    inputs.push_back(x);
    expect_gradients(inputs, [&] {
      Exec exec = *Exec::current();
      exec.adapters = &one.adapters;
      ExecScope scope(exec);
      return matmul(x, w.weight);
    });
  }
}

// Bengio et al., arXiv:1308.3432: the gradient of a score is that of its factor.
TEST(Adapters, ScoresHaveTheGradientOfTheirFactors) {
  const Weight w = Weight::from("w", random_tensor({4, 3}, 1));
  const Tensor x = random_tensor({2, 3}, 2), scores = random_tensor({4, 3}, 3);
  Tensor factors = Tensor::zeros({4, 3});
  for (int64_t i = 0; i < 12; ++i) factors.data()[i] = scores.data()[i] > 0 ? 1.0f : 0.0f;
  const auto gradient = [&](const Mask& mask) {
    Adapters adapters;
    EXPECT_TRUE(adapters.add(w, mask));
    Tape tape;
    tape.watch(mask.values);
    Exec exec{.tape = &tape, .adapters = &adapters};
    ExecScope scope(exec);
    const Tensor y = matmul(x, w);
    tape.backward(y, random_tensor(y.shape(), 9));
    return tape.grad(mask.values);
  };
  const Tensor of_scores = gradient({scores, /*scores=*/true});
  EXPECT_TRUE(same_bits(of_scores, gradient({factors})));
  EXPECT_TRUE(std::ranges::none_of(of_scores.values(), [](float g) { return g == 0; }));  // of those at 0 too
}

// With a temperature it is that of the probability: sigmoid'(s / t) / t of the factor's.
TEST(Adapters, ScoresOfATemperatureHaveTheGradientOfTheirProbabilities) {
  const Weight w = Weight::from("w", random_tensor({4, 6}, 1));
  const Tensor x = random_tensor({2, 6}, 2);
  for (const int64_t n : {0, 3}) {  // for each element; for each of 3 runs of 2 columns
    const Tensor scores = n == 0 ? random_tensor({4, 6}, 3) : random_tensor({1, n}, 3);
    Tensor factors = Tensor::zeros(scores.shape());
    for (int64_t i = 0; i < scores.elements(); ++i) factors.data()[i] = scores.data()[i] > 0 ? 1.0f : 0.0f;
    const auto pass = [&](const Mask& mask) {
      Adapters adapters;
      EXPECT_TRUE(adapters.add(w, mask));
      Tape tape;
      tape.watch(mask.values);
      Exec exec{.tape = &tape, .adapters = &adapters};
      ExecScope scope(exec);
      const Tensor y = matmul(x, w);
      tape.backward(y, random_tensor(y.shape(), 9));
      return std::pair{y, tape.grad(mask.values)};
    };
    const auto [y, of_scores] = pass({scores, /*scores=*/true, /*temperature=*/0.5f});
    const auto [same, of_factors] = pass({factors});
    EXPECT_TRUE(same_bits(y, same));
    for (int64_t i = 0; i < scores.elements(); ++i) {
      const double p = 1 / (1 + std::exp(-scores.data()[i] / 0.5));
      EXPECT_NEAR(of_scores.data()[i], of_factors.data()[i] * p * (1 - p) / 0.5, 1e-6) << i;
    }
  }
}

TEST(Adapters, AMaskOfRunsIsOneOfAllTheirElements) {
  const Weight w = Weight::from("w", random_tensor({7, 6}, 1));
  const Tensor runs = random_tensor({1, 3}, 2);
  Tensor all = Tensor::zeros({7, 6});
  for (int64_t i = 0; i < all.elements(); ++i) all.data()[i] = runs.data()[i % 6 / 2];
  Adapters of_runs, of_all;
  ASSERT_TRUE(of_runs.add(w, Mask{runs}));
  ASSERT_TRUE(of_all.add(w, Mask{all}));
  const std::vector<int32_t> tokens = {5, 0, 1};
  const auto found = [&](const Adapters& adapters) {
    Exec exec{.adapters = &adapters};
    ExecScope scope(exec);
    return std::pair{matmul(random_tensor({2, 6}, 3), w), embed(w, tokens)};
  };
  const auto a = found(of_runs), b = found(of_all);
  EXPECT_TRUE(same_bits(a.first, b.first));
  EXPECT_TRUE(same_bits(a.second, b.second));
  expect_gradients({runs}, [&] {
    Exec exec = *Exec::current();
    exec.adapters = &of_runs;
    ExecScope scope(exec);
    return matmul(random_tensor({2, 6}, 3), w);
  });
  Adapters none;
  EXPECT_FALSE(none.add(w, Mask{Tensor::zeros({1, 4})}));
}

TEST(Adapters, AWeightThatNoneNamesKeepsItsBitsInTheSameJob) {
  const QuantizedMatrix q(48, 64, 1), k(32, 64, 2), v(16, 64, 3);
  const Tensor x = random_tensor({5, 64}, 4);
  const Weight none;
  Exec exec;
  ExecScope scope(exec);
  const auto product = [&] { return matmuls(x, {{q.weight, none}, {k.weight, none, true}, {v.weight, none, true}}); };
  const auto plain = product();
  for (Case& one : cases(k.weight)) {
    SCOPED_TRACE(one.name);
    exec.adapters = &one.adapters;
    const auto changed = product();
    EXPECT_TRUE(same_bits(changed[0], plain[0]));
    EXPECT_FALSE(same_bits(changed[1], plain[1]));
    EXPECT_TRUE(same_bits(changed[2], plain[2]));
    exec.adapters = nullptr;
    EXPECT_TRUE(same_bits(product()[1], plain[1]));
  }
}

TEST(Adapters, RankZeroAndNoRowsChangeNoBit) {
  const QuantizedMatrix w(48, 64, 1);
  const Tensor x = random_tensor({5, 64}, 2);
  Exec exec;
  ExecScope scope(exec);
  const Tensor plain = matmul(x, w.weight);
  Adapters adapters;
  ASSERT_TRUE(adapters.add(w.weight, lora(48, 64, 0, 3)));
  ASSERT_TRUE(adapters.add(w.weight, Rows{Tensor::zeros({0, 64}), 48}));
  exec.adapters = &adapters;
  EXPECT_EQ(adapters.find(w.weight), nullptr);
  EXPECT_TRUE(same_bits(matmul(x, w.weight), plain));
}

TEST(Adapters, TwoThreadsReadOneWeightEachWithItsOwn) {
  const QuantizedMatrix w(48, 64, 1);
  const Tensor x = random_tensor({5, 64}, 2);
  Adapters adapters[2];
  Tensor alone[2];
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(adapters[i].add(w.weight, lora(48, 64, 2 + i, 10 + static_cast<uint64_t>(i))));
    Exec exec{.adapters = &adapters[i]};
    ExecScope scope(exec);
    alone[i] = matmul(x, w.weight);
  }
  EXPECT_FALSE(same_bits(alone[0], alone[1]));
  int same[2] = {};
  const auto work = [&](int i) {
    Arena arena;
    Exec exec{.arena = &arena, .adapters = &adapters[i]};
    ExecScope scope(exec);
    for (int n = 0; n < 50; ++n) same[i] += same_bits(matmul(x, w.weight), alone[i]);
  };
  std::thread other(work, 1);
  work(0);
  other.join();
  EXPECT_EQ(same[0], 50);
  EXPECT_EQ(same[1], 50);
}

TEST(Adapters, RefuseAShapeThatDoesNotFitAndNameTheWeight) {
  const Weight w = Weight::from("blk.0.attn_q.weight", Tensor::zeros({6, 5}));
  Adapters adapters;
  const auto refusal = [](const Status& status) {
    EXPECT_FALSE(status.has_value());
    if (status.has_value()) return std::string();
    EXPECT_EQ(status.error().code, ErrorCode::kUsage);
    EXPECT_THAT(status.error().message, HasSubstr("blk.0.attn_q.weight"));
    return status.error().message;
  };
  EXPECT_THAT(refusal(adapters.add(w, lora(5, 6, 2, 1))), HasSubstr("[2, 6] and b is [5, 2]"));
  EXPECT_THAT(refusal(adapters.add(w, Lora{Tensor::zeros({2, 5}), Tensor::zeros({6, 3})})), HasSubstr("[6, 3]"));
  EXPECT_THAT(refusal(adapters.add(w, Mask{Tensor::zeros({5, 6})})), HasSubstr("[5, 6]"));
  EXPECT_THAT(refusal(adapters.add(w, Rows{Tensor::zeros({3, 5}), 4})), HasSubstr("from 4"));
  EXPECT_THAT(refusal(adapters.add(w, Rows{Tensor::zeros({3, 5}), -1})), HasSubstr("from -1"));
  EXPECT_EQ(adapters.find(w), nullptr);
  ASSERT_TRUE(adapters.add(w, Mask{Tensor::zeros({6, 5})}));
  EXPECT_THAT(refusal(adapters.add(w, Mask{Tensor::zeros({6, 5})})), HasSubstr("already"));
  const Weight norm = Weight::from("output_norm.weight", Tensor::zeros({5}));
  EXPECT_THAT(adapters.add(norm, lora(1, 5, 1, 1)).error().message, HasSubstr("output_norm.weight: it is a vector"));
}

// Rows of a product that have adapters of their own, beside some that have none.
TEST(Adapters, RowsHaveEachTheirOwn) {
  const Weight w = Weight::from("w", random_tensor({6, 8}, 1));
  Adapters one, other, masked;
  ASSERT_TRUE(one.add(w, lora(6, 8, 2, 2)));
  ASSERT_TRUE(other.add(w, lora(6, 8, 3, 4)));
  ASSERT_TRUE(other.add(w, Rows{random_tensor({2, 8}, 6), 1, true}));
  ASSERT_TRUE(masked.add(w, Mask{random_tensor({6, 8}, 7)}));
  const Tensor x = random_tensor({7, 8}, 8);
  const std::vector<int32_t> tokens = {5, 0, 1, 2, 3, 4, 5};
  const AdapterRows rows[] = {{2, &one}, {3, nullptr}, {5, &other}, {7, &masked}};
  Exec mixed{.adapter_rows = rows};
  Tensor product, looked_up;
  {
    ExecScope scope(mixed);
    product = matmul(x, w);
    looked_up = embed(w, tokens);
    EXPECT_THROW(matmul(slice(x, 0, 0, 3), w), CheckFailed);
  }
  int64_t begin = 0;
  for (const AdapterRows& some : rows) {
    Exec alone{.adapters = some.adapters};
    ExecScope scope(alone);
    EXPECT_TRUE(same_bits(slice(product, 0, begin, some.end), matmul(slice(x, 0, begin, some.end), w)));
    const auto ids = std::span(tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(some.end - begin));
    EXPECT_TRUE(same_bits(slice(looked_up, 0, begin, some.end), embed(w, ids)));
    begin = some.end;
  }
}

TEST(Adapters, ALoraOfOneUseLeavesTheOtherAsItIs) {
  const Weight w = Weight::from("w", random_tensor({6, 8}, 1));
  const Tensor x = random_tensor({3, 8}, 2);
  const std::vector<int32_t> tokens = {5, 0};
  const Tensor product = matmul(x, w), looked_up = embed(w, tokens);
  for (const auto use : {Lora::Use::kProducts, Lora::Use::kLookUps}) {
    Adapters adapters;
    Lora some = lora(6, 8, 2, 3);
    some.use = use;
    ASSERT_TRUE(adapters.add(w, some));
    Exec exec{.adapters = &adapters};
    ExecScope scope(exec);
    EXPECT_EQ(same_bits(matmul(x, w), product), use == Lora::Use::kLookUps);
    EXPECT_EQ(same_bits(embed(w, tokens), looked_up), use == Lora::Use::kProducts);
  }
}

TEST(Adapters, AFrozenLoraGivesTheSameBits) {
  const Weight w = Weight::from("w", random_tensor({48, 64}, 1));
  for (const int64_t n : {1, 5, 40, 200}) {
    const Tensor x = random_tensor({n, 64}, 2);
    std::vector<Tensor> found;
    for (const bool frozen : {false, true}) {
      Adapters adapters;
      Lora some = lora(48, 64, 5, 3);
      some.frozen = frozen;
      ASSERT_TRUE(adapters.add(w, some));
      Exec exec{.adapters = &adapters};
      ExecScope scope(exec);
      for (int again = 0; again < 3; ++again) found.push_back(matmul(x, w));  // packed at the second
    }
    for (const Tensor& one : found) EXPECT_TRUE(same_bits(one, found[0])) << n;
  }
}

// What follows a product is done in the job that adds the Lora. Told as rows that have an adapter of their own, each
// step is an op by itself.
TEST(Adapters, AProductWithALoraAndWhatFollowsItHaveTheBitsOfSingleSteps) {
  const QuantizedMatrix gate(96, 64, 1), up(96, 64, 2);
  const Weight bias = Weight::from("b", random_tensor({96}, 3));
  Adapters adapters;
  for (const Weight* w : {&gate.weight, &up.weight}) {
    Lora some = lora(96, 64, 5, 4);
    some.scale = 1, some.frozen = true;
    ASSERT_TRUE(adapters.add(*w, some));
  }
  for (const Numerics numerics : {Numerics::kExact, Numerics::kFast}) {
    for (const int64_t n : {1, 3, 9, 70}) {
      const Tensor x = random_tensor({n, 64}, 5), residual = random_tensor({n, 96}, 6);
      const auto all = [&] {
        std::vector<Tensor> y = {matmul(x, gate.weight, bias), matmul_add(residual, x, {gate.weight, bias}, 0.5f),
                                 matmul_gated(x, {gate.weight, bias}, {up.weight, bias}, Activation::kGelu),
                                 matmul_activated(x, {gate.weight, bias}, Activation::kSilu)};
        for (Tensor& one : matmuls(x, {{gate.weight, bias}, {up.weight, bias, true}})) y.push_back(std::move(one));
        return y;
      };
      const AdapterRows rows[] = {{n, &adapters}};
      Exec together{.numerics = numerics, .adapters = &adapters}, apart{.numerics = numerics, .adapter_rows = rows};
      std::vector<Tensor> found, expected;
      {
        ExecScope scope(together);
        found = all();
      }
      {
        ExecScope scope(apart);
        expected = all();
      }
      for (size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(same_bits(found[i], expected[i])) << n << " " << i;
    }
  }
}

TEST(Adapters, FrozenLorasOfOneUseAreOneOfBothRanks) {
  const Weight w = Weight::from("w", random_tensor({6, 8}, 1));
  Adapters adapters;
  const Lora of[] = {lora(6, 8, 2, 2), lora(6, 8, 3, 4), lora(6, 8, 1, 6), lora(6, 8, 2, 8)};
  for (Lora one : of) {
    one.scale = 1, one.frozen = true;
    one.use = one.a.dim(0) == 1 ? Lora::Use::kLookUps : Lora::Use::kProducts;
    ASSERT_TRUE(adapters.add(w, one));
  }
  const std::vector<Lora>& kept = adapters.find(w)->loras;
  ASSERT_EQ(kept.size(), 2u);  // that of look-ups stays apart
  EXPECT_EQ(kept[1].a.dim(0), 7);
  const Tensor x = random_tensor({3, 8}, 10);
  Tensor expected = matmul(x, w);
  for (const int i : {0, 1, 3}) {
    const Weight a = Weight::from("a", of[i].a), b = Weight::from("b", of[i].b);
    expected = matmul_add(expected, matmul(x, a), b);
  }
  Exec exec{.adapters = &adapters};
  ExecScope scope(exec);
  expect_near(matmul(x, w), expected);
}

}  // namespace adapters_test
}  // namespace fovea::tensor
