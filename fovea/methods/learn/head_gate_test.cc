#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fovea/attention/testing/one_layer.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/reduce/reduce.h"
#include "fovea/tensor/tape.h"

namespace fovea::attention {
namespace head_gate_test {

// The layer with its gates, as a file would have them.
void set(OneLayer& layer, const std::vector<float>& values) {
  for (const tensor::Parameter& p : layer.pipeline.methods()[0]->parameters()) {
    tensor::Tensor t = tensor::Tensor::empty({static_cast<int64_t>(values.size())});
    std::copy(values.begin(), values.end(), t.data());
    *p.target = tensor::Weight::from(p.name, t);
  }
}

TEST(HeadGate, MultipliesTheOutputOfEachHead) {
  OneLayer dense, gated("head-gate");
  set(gated, {2, 1, 0, -0.5f});
  const std::vector<float> before = dense.feed(5), after = gated.feed(5);
  for (int row = 0; row < 5; ++row) {
    for (int head = 0; head < 4; ++head) {
      std::vector<float> expected = dense.of_head(before, row, head);
      for (float& x : expected) x *= std::vector<float>{2, 1, 0, -0.5f}[static_cast<size_t>(head)];
      EXPECT_EQ(gated.of_head(after, row, head), expected) << row << " " << head;
    }
  }
}

TEST(HeadGate, ItsGradientIsTheOutputOfTheHead) {
  const ModelShape shape = OneLayer::small_shape();
  OneLayer layer("head-gate");
  set(layer, {1, 1, 1, 1});
  Batch batch;
  batch.add(std::vector<int32_t>(6, 0), 0, 0);
  const tensor::Tensor gates = layer.pipeline.methods()[0]->parameters()[0].target->value;
  const auto qkv = layer.inputs(batch, 0);
  tensor::Tape tape;
  tensor::Exec exec{.numerics = tensor::Numerics::kExact, .tape = &tape};
  tensor::ExecScope scope(exec);
  tape.watch(gates);
  const tensor::Tensor z = layer.without_cache(batch, 0, qkv);
  tape.backward(tensor::sum(z));
  const tensor::Tensor gradient = tape.grad(gates);
  for (int head = 0; head < shape.n_heads; ++head) {
    double sum = 0;
    for (int row = 0; row < 6; ++row) {
      for (const float x : layer.of_head({z.values().begin(), z.values().end()}, row, head)) sum += x;
    }
    EXPECT_NEAR(gradient.data()[head], sum, 1e-4) << head;
  }
}

}  // namespace head_gate_test
}  // namespace fovea::attention
