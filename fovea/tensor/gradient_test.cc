// A two-layer llama out of ops, against the loss and every gradient of transformers on the same
// parameters (tests/golden/gradients.bin, made by tools/make_gradient_golden.py).
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/ops.h"
#include "fovea/tensor/tape.h"
#include "fovea/tensor/testing/golden_tensors.h"

namespace fovea::tensor {
namespace gradient_test {

struct Golden {
  std::vector<int32_t> tokens;
  double loss = 0;
  std::map<std::string, Tensor> tensors;

  Weight weight(const std::string& name) const { return Weight::from(name, tensors.at(name)); }
};

void read_golden(Golden& golden) {
  GoldenTensors all;
  ASSERT_NO_FATAL_FAILURE(read_golden_tensors("gradients.bin", all));
  golden.tokens = all.header["tokens"].get<std::vector<int32_t>>();
  golden.loss = all.header["loss"].get<double>();
  golden.tensors = std::move(all.tensors);
}

constexpr int kLayers = 2, kHeads = 4, kKvHeads = 2, kHeadDim = 16;
constexpr float kEps = 1e-5f;

// `slow`: attention by plain loops in double.
Tensor logits_of(const Golden& golden, bool slow) {
  const size_t n = golden.tokens.size();
  std::vector<int32_t> positions(n), sequences(n, 0);
  for (size_t i = 0; i < n; ++i) positions[i] = static_cast<int32_t>(i);
  RopeTable table;
  for (int i = 0; i < kHeadDim; i += 2)
    table.inv_freq.push_back(static_cast<float>(std::pow(10000.0, -static_cast<double>(i) / kHeadDim)));
  const RopeAngles angles = make_rope_angles(positions, table);
  Tensor x = embed(golden.weight("model.embed_tokens.weight"), golden.tokens);
  for (int layer = 0; layer < kLayers; ++layer) {
    const auto w = [&](const std::string& name) {
      return golden.weight("model.layers." + std::to_string(layer) + "." + name + ".weight");
    };
    Tensor h = rms_norm(x, w("input_layernorm"), kEps);
    const Tensor q = rope(split_heads(matmul(h, w("self_attn.q_proj")), kHeads), angles);
    const Tensor k = rope(split_heads(matmul(h, w("self_attn.k_proj")), kKvHeads), angles);
    const Tensor v = split_heads(matmul(h, w("self_attn.v_proj")), kKvHeads);
    const float scale = 1.0f / std::sqrt(static_cast<float>(kHeadDim));
    const Tensor z =
        slow ? sdpa(q, k, v, positions, sequences, scale) : attention(q, k, v, positions, sequences, {.scale = scale});
    x = add(x, matmul(merge_heads(z), w("self_attn.o_proj")));
    h = rms_norm(x, w("post_attention_layernorm"), kEps);
    h = swiglu(matmul(h, w("mlp.gate_proj")), matmul(h, w("mlp.up_proj")));
    x = add(x, matmul(h, w("mlp.down_proj")));
  }
  return matmul(rms_norm(x, golden.weight("model.norm.weight"), kEps), golden.weight("lm_head.weight"));
}

double norm(const Tensor& t) {
  double squares = 0;
  for (const float v : t.values()) squares += static_cast<double>(v) * v;
  return std::sqrt(squares);
}

void expect_golden_gradients(bool slow) {
  Golden golden;
  ASSERT_NO_FATAL_FAILURE(read_golden(golden));
  Arena arena;  // before the tape, whose gradients live in it
  Tape tape;
  Exec exec{.arena = &arena, .tape = &tape};
  std::vector<int32_t> targets(golden.tokens.begin() + 1, golden.tokens.end());
  targets.push_back(-1);
  int compared = 0;
  for (const auto& [name, t] : golden.tensors) {
    if (!name.ends_with(".grad")) tape.watch(t);
  }
  {
    ExecScope scope(exec);
    const Tensor loss = cross_entropy(logits_of(golden, slow), targets).mean();
    EXPECT_NEAR(loss.data()[0], golden.loss, 1e-5 * golden.loss);
    tape.backward(loss);
    for (const auto& [name, t] : golden.tensors) {
      if (name.ends_with(".grad")) continue;
      const Tensor& expected = golden.tensors.at(name + ".grad");
      const Tensor& actual = tape.grad(t);
      // float32 forward and backward against double: sums of up to some hundred products. The
      // floor of an element is a share of its tensor's typical element.
      const double whole = norm(expected);
      const double typical = whole / std::sqrt(static_cast<double>(expected.elements()));
      double squares = 0;
      for (int64_t i = 0; i < expected.elements(); ++i) {
        const double off = static_cast<double>(actual.data()[i]) - expected.data()[i];
        squares += off * off;
        ASSERT_LE(std::abs(off), 1e-4 * (std::abs(expected.data()[i]) + typical)) << name << ", element " << i;
      }
      EXPECT_LE(std::sqrt(squares), 1e-5 * whole) << name;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 21);  // 9 per layer, embedding, last norm, head
}

TEST(Gradients, OfATwoLayerLlamaAreThoseOfTransformers) { expect_golden_gradients(false); }
TEST(Gradients, ThroughTheSlowTwinOfAttentionToo) { expect_golden_gradients(true); }

}  // namespace gradient_test
}  // namespace fovea::tensor
