#include "fovea/tensor/ops/attention/attention.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>

#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/tensor/ops/attention/sdpa.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace attention_test {

std::vector<int32_t> rising(int64_t n) {
  std::vector<int32_t> x(static_cast<size_t>(n));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<int32_t>(i);
  return x;
}

std::vector<float> values(const Tensor& t) { return {t.values().begin(), t.values().end()}; }

// z and the three gradients of sum(seed z), one after the other.
template <typename Op>
std::vector<float> all_of(const Tensor& q, const Tensor& k, const Tensor& v, const Op& op) {
  Tape tape;
  Exec exec{.tape = &tape};
  ExecScope scope(exec);
  for (const Tensor* t : {&q, &k, &v}) tape.watch(*t);
  const Tensor z = op();
  tape.backward(z, random_tensor(z.shape(), 9));
  std::vector<float> all = values(z);
  for (const Tensor* t : {&q, &k, &v})
    all.insert(all.end(), tape.grad(*t).values().begin(), tape.grad(*t).values().end());
  return all;
}

TEST(Attention, AndItsGradientsAreThoseOfTheSlowTwin) {
  for (const int64_t n : {1, 40, 150}) {
    for (const int64_t kv_heads : {1, 2, 4}) {
      for (const int64_t width : {8, 20, 64}) {
        SCOPED_TRACE(std::to_string(n) + " " + std::to_string(kv_heads) + " " + std::to_string(width));
        const Tensor q = random_tensor({n, 4, width}, 1), k = random_tensor({n, kv_heads, width}, 2),
                     v = random_tensor({n, kv_heads, width}, 3);
        const std::vector<int32_t> positions = rising(n), sequences(static_cast<size_t>(n), 0);
        const auto fast = all_of(q, k, v, [&] { return attention(q, k, v, positions, sequences, {.scale = 0.3f}); });
        const auto slow = all_of(q, k, v, [&] { return sdpa(q, k, v, positions, sequences, 0.3f); });
        ASSERT_EQ(fast.size(), slow.size());
        for (size_t i = 0; i < fast.size(); ++i) ASSERT_NEAR(fast[i], slow[i], 2e-5 * (1 + std::abs(slow[i]))) << i;
      }
    }
  }
}

TEST(Attention, SequencesMayBeMixedAndPositionsInAnyOrder) {
  const Tensor q = random_tensor({6, 2, 8}, 1), k = random_tensor({6, 1, 8}, 2), v = random_tensor({6, 1, 8}, 3);
  const std::vector<int32_t> positions = {1, 0, 0, 2, 1, 2}, sequences = {5, 5, 7, 5, 7, 7};
  const auto fast = all_of(q, k, v, [&] { return attention(q, k, v, positions, sequences, {.scale = 0.5f}); });
  const auto slow = all_of(q, k, v, [&] { return sdpa(q, k, v, positions, sequences, 0.5f); });
  for (size_t i = 0; i < fast.size(); ++i) ASSERT_NEAR(fast[i], slow[i], 1e-5) << i;
}

TEST(Attention, GradientsMeetFiniteDifferences) {
  const Tensor q = random_tensor({5, 2, 4}, 4), k = random_tensor({5, 1, 4}, 5), v = random_tensor({5, 1, 3}, 6);
  const std::vector<int32_t> positions = rising(5), sequences = {0, 0, 0, 0, 0};
  for (const AttentionOptions& options :
       {AttentionOptions{.scale = 0.7f}, AttentionOptions{.scale = 0.7f, .causal = false},
        AttentionOptions{.scale = 0.7f, .rule = {.n_sink = 1, .window = 2}}}) {
    const auto compute = [&] { return attention(q, k, v, positions, sequences, options); };
    expect_gradients({q, k, v}, compute);
    expect_gradients({v}, compute);
    expect_gradients({k}, compute);
  }
}

// Every head of x so often, one beside the other.
Tensor repeated(const Tensor& x, int64_t times) {
  Tensor out = Tensor::empty({x.dim(0), x.dim(1) * times, x.dim(2)});
  for (int64_t i = 0; i < out.dim(0) * out.dim(1); ++i)
    std::copy_n(x.data() + i / times * x.dim(2), x.dim(2), out.data() + i * x.dim(2));
  return out;
}

TEST(Attention, KeysAndValuesMayHaveTheirOwnNumbersOfHeads) {
  const int64_t n = 40;
  const std::vector<int32_t> positions = rising(n), sequences(static_cast<size_t>(n), 0);
  const AttentionOptions options{.scale = 0.3f};
  for (const auto& [heads, n_k, n_v] : {std::array<int64_t, 3>{8, 2, 4}, {8, 4, 2}, {4, 1, 4}, {6, 3, 3}}) {
    const Tensor q = random_tensor({n, heads, 16}, 1), k = random_tensor({n, n_k, 16}, 2),
                 v = random_tensor({n, n_v, 20}, 3);
    const int64_t most = std::max(n_k, n_v);
    const Tensor all_k = repeated(k, most / n_k), all_v = repeated(v, most / n_v);
    const auto found = all_of(q, k, v, [&] { return attention(q, k, v, positions, sequences, options); });
    const auto twin =
        all_of(q, all_k, all_v, [&] { return attention(q, all_k, all_v, positions, sequences, options); });
    std::vector<double> expected(twin.begin(), twin.begin() + n * heads * (20 + 16));  // z and dq
    int64_t from = static_cast<int64_t>(expected.size());
    for (const Tensor* x : {&k, &v}) {  // what repeated heads get adds up
      const int64_t width = x->dim(2), times = most / x->dim(1), at = static_cast<int64_t>(expected.size());
      expected.resize(expected.size() + static_cast<size_t>(x->elements()), 0.0);
      for (int64_t i = 0; i < n * most * width; ++i, ++from)
        expected[static_cast<size_t>(at + i / width / times * width + i % width)] += twin[static_cast<size_t>(from)];
    }
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i)
      ASSERT_NEAR(found[i], expected[i], 1e-5 * (1 + std::abs(expected[i])))
          << heads << " " << n_k << " " << n_v << " " << i;
  }
}

TEST(Attention, GradientsOfSharedHeadsMeetFiniteDifferences) {
  const std::vector<int32_t> positions = {1, 0, 0, 2, 1}, sequences = {0, 0, 3, 0, 3};
  for (const auto& [n_k, n_v] : {std::pair<int64_t, int64_t>{1, 2}, {2, 1}}) {
    const Tensor q = random_tensor({5, 4, 4}, 4), k = random_tensor({5, n_k, 4}, 5), v = random_tensor({5, n_v, 3}, 6);
    expect_gradients({q, k, v}, [&] { return attention(q, k, v, positions, sequences, {.scale = 0.7f}); });
  }
}

TEST(Attention, WithoutCausalityTheFirstSeesTheLast) {
  const Tensor q = Tensor::zeros({2, 1, 8}), k = Tensor::zeros({2, 1, 8}), v = random_tensor({2, 1, 8}, 1);
  const std::vector<int32_t> positions = {0, 1}, sequences = {0, 0};
  const Tensor z = attention(q, k, v, positions, sequences, {.causal = false});
  for (int64_t c = 0; c < 8; ++c) {
    EXPECT_NEAR(z.data()[c], (v.data()[c] + v.data()[8 + c]) / 2, 1e-6);
    EXPECT_EQ(z.data()[c], z.data()[8 + c]);
  }
}

TEST(Attention, AnyNumberOfThreadsGivesTheSameBits) {
  const Tensor q = random_tensor({300, 6, 32}, 1), k = random_tensor({300, 3, 32}, 2),
               v = random_tensor({300, 3, 32}, 3);
  const std::vector<int32_t> positions = rising(300), sequences(300, 0);
  const auto bits = [&] {
    return all_of(q, k, v, [&] { return attention(q, k, v, positions, sequences, {.scale = 0.2f}); });
  };
  set_threads(1);
  const std::vector<float> want = bits();
  for (const int threads : {2, 3}) {
    set_threads(threads);
    EXPECT_EQ(bits(), want) << threads;
  }
  set_threads(0);
}

TEST(Attention, RefusesWhatDoesNotFit) {
  const std::vector<int32_t> one = {0};
  const Tensor q = Tensor::zeros({1, 3, 8}), kv = Tensor::zeros({1, 2, 8});
  EXPECT_THROW(attention(q, kv, kv, one, one, {}), CheckFailed);
  EXPECT_THROW(attention(Tensor::zeros({1, 6, 8}), kv, q, one, one, {}), CheckFailed);  // 2 key heads, 3 value heads
  const Tensor k = Tensor::zeros({1, 1, 8});
  EXPECT_THROW(attention(q, k, k, one, one, {.rule = {.window = 4}, .causal = false}), CheckFailed);
}

}  // namespace attention_test
}  // namespace fovea::tensor
