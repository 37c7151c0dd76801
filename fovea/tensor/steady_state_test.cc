// What holds for all ops together in inference: no heap in steady state, and the same bits for any
// number of threads.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "fovea/base/testing/count_allocations.h"
#include "fovea/base/threads.h"
#include "fovea/tensor/adapters.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/ops.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace steady_state_test {

// One layer of a small model, without attention.
struct Layer {
  static constexpr int64_t kModel = 64, kHeads = 4, kFf = 160, kVocab = 50;
  Weight table = Weight::from("table", random_tensor({kVocab, kModel}, 1));
  Weight norm = Weight::from("norm", random_tensor({kModel}, 2));
  Weight w_q = Weight::from("w_q", random_tensor({kModel, kModel}, 3, 0.1));
  Weight bias = Weight::from("bias", random_tensor({kModel}, 4, 0.1));
  Weight w_gate = Weight::from("w_gate", random_tensor({kFf, kModel}, 5, 0.1));
  Weight w_up = Weight::from("w_up", random_tensor({kFf, kModel}, 6, 0.1));
  Weight w_down = Weight::from("w_down", random_tensor({kModel, kFf}, 7, 0.1));
  RopeTable rope_table{.inv_freq = {1.0f, 0.5f, 0.25f, 0.125f, 0.06f, 0.03f, 0.015f, 0.0075f}};

  Tensor forward(std::span<const int32_t> tokens, std::span<const int32_t> positions) const {
    Tensor x = embed(table, tokens);
    Tensor h = rms_norm(x, norm, 1e-5f);
    const RopeAngles angles = make_rope_angles(positions, rope_table);
    const Tensor q = rope(split_heads(matmul(h, w_q, bias), kHeads), angles);
    x = add(x, mul(merge_heads(q), h));
    h = rms_norm(x, norm, 1e-5f);
    h = swiglu(matmul(h, w_gate), matmul(h, w_up));
    x = add(x, matmul(h, w_down));
    const int32_t last[] = {static_cast<int32_t>(tokens.size()) - 1};
    return select_rows(x, last);
  }
};

TEST(SteadyState, AStepWithoutATapeReachesTheHeapNever) {
  if (!FOVEA_COUNTS_ALLOCATIONS) GTEST_SKIP() << "allocations cannot be counted under the thread sanitizer";
  const uint64_t start = g_allocations;
  const Layer layer;
  ASSERT_GT(g_allocations, start);  // the counter works
  Arena arena;
  Exec exec{.arena = &arena};
  ExecScope scope(exec);
  const std::vector<int32_t> many(300, 7), one = {3}, at = {41};
  for (const auto& tokens : {one, many}) {
    const std::vector<int32_t> positions(tokens.size(), 41);
    for (int warm = 0; warm < 20; ++warm) layer.forward(tokens, positions);  // every thread meets its buffers
    const uint64_t before = g_allocations;
    for (int step = 0; step < 5; ++step) layer.forward(tokens, positions);
    EXPECT_EQ(g_allocations - before, 0u) << tokens.size() << " tokens";
  }
}

TEST(SteadyState, AProductWithALoraReachesTheHeapNever) {
  if (!FOVEA_COUNTS_ALLOCATIONS) GTEST_SKIP() << "allocations cannot be counted under the thread sanitizer";
  const Weight w = Weight::from("blk.0.attn_output.weight", random_tensor({48, 64}, 1));
  Adapters adapters;
  ASSERT_TRUE(adapters.add(w, Lora{random_tensor({4, 64}, 2), random_tensor({48, 4}, 3)}));
  Arena arena;
  Exec exec{.arena = &arena, .adapters = &adapters};
  ExecScope scope(exec);
  const Tensor x = random_tensor({1, 64}, 4);
  for (int warm = 0; warm < 20; ++warm) matmul(x, w);
  const uint64_t before = g_allocations;
  for (int step = 0; step < 5; ++step) matmul(x, w);
  EXPECT_EQ(g_allocations - before, 0u);
}

TEST(SteadyState, AnyNumberOfThreadsGivesTheSameBits) {
  const Layer layer;
  std::vector<int32_t> tokens(300), positions(300);
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>(i * 7 % Layer::kVocab);
    positions[i] = static_cast<int32_t>(i);
  }
  // Forward and backward, with attention between: the last row of x, and the gradient of w_q.
  const auto bits = [&] {
    Tape tape;
    Exec exec{.tape = &tape};
    ExecScope scope(exec);
    tape.watch(layer.w_q.value);
    tape.watch(layer.norm.value);
    const Tensor h = rms_norm(embed(layer.table, tokens), layer.norm, 1e-5f);
    const Tensor q = split_heads(matmul(h, layer.w_q), Layer::kHeads);
    const std::vector<int32_t> sequences(tokens.size(), 0);
    const Tensor z = merge_heads(sdpa(q, q, q, positions, sequences, 0.25f));
    tape.backward(cross_entropy(z, std::vector<int32_t>(tokens.size(), 1)).mean());
    exec.tape = nullptr;
    std::vector<float> all;
    for (const Tensor& t :
         {tape.grad(layer.w_q.value), tape.grad(layer.norm.value), z, layer.forward(tokens, positions)})
      all.insert(all.end(), t.values().begin(), t.values().end());
    return all;
  };
  set_threads(1);
  const std::vector<float> expected = bits();
  for (int threads = 2; threads <= 8; ++threads) {
    set_threads(threads);
    const std::vector<float> actual = bits();
    ASSERT_EQ(actual.size(), expected.size());
    EXPECT_EQ(std::memcmp(actual.data(), expected.data(), expected.size() * sizeof(float)), 0) << threads << " threads";
  }
  set_threads(0);
}

}  // namespace steady_state_test
}  // namespace fovea::tensor
