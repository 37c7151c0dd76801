#include "fovea/models/support/forward.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "fovea/base/check.h"
#include "fovea/models/testing/tiny_model.h"

namespace fovea::models {
namespace forward_test {

using attention::Batch;
using attention::Hooks;
using attention::KvCache;
using tensor::Tensor;

std::vector<float> values(const Tensor& t) { return {t.values().begin(), t.values().end()}; }

class Forward : public ::testing::Test {
 protected:
  static Batch batch_of(std::span<const int32_t> ids, int32_t first = 0) {
    Batch batch;
    batch.add(ids, first, 0);
    batch.logit_rows.resize(ids.size());
    std::iota(batch.logit_rows.begin(), batch.logit_rows.end(), 0);
    return batch;
  }
  // Through a new cache.
  Tensor run(const Batch& batch, const Pass& pass = {}) {
    KvCache cache(attention::CacheShape::of(model_.shape(), kernels::KvType::kF32));
    return forward(model_.family(), context(batch, &cache), hooks_, pass);
  }
  attention::Attend::Context context(const Batch& batch, KvCache* cache) const {
    return {.model = model_.shape(), .ropes = model_.family().config().ropes, .batch = batch, .cache = cache};
  }

  tensor::Exec exec_{.arena = nullptr, .numerics = tensor::Numerics::kExact};
  tensor::ExecScope scope_{exec_};
  TinyModel model_{"tiny-llama"};
  Hooks hooks_{model_.family().hooks()};
  const Batch batch_ = batch_of(model_.ids());
};

TEST_F(Forward, StopsBeforeABlockAndGoesOnFromThere) {
  const std::vector<float> whole = values(run(batch_));
  const Tensor x = run(batch_, {.end_block = 1});
  EXPECT_EQ(x.shape(), (tensor::Shape{batch_.size(), model_.shape().d_model}));
  EXPECT_EQ(values(run(batch_, {.x = x, .first_block = 1})), whole);
  EXPECT_THROW(run(batch_, {.x = x, .first_block = 2, .end_block = 1}), CheckFailed);
  EXPECT_THROW(run(batch_, {.end_block = 3}), CheckFailed);
}

TEST_F(Forward, GivenRowsStandForTheirTokens) {
  const std::vector<float> whole = values(run(batch_));
  const Tensor x = run(batch_, {.end_block = 0});
  std::vector<int32_t> ids = model_.ids();
  ids[2] = ids[3] = ids.back() = 0;
  const auto last = static_cast<int64_t>(ids.size()) - 1;
  const GivenRows given[] = {{2, slice(x, 0, 2, 4)}, {last, slice(x, 0, last, last + 1)}};
  EXPECT_EQ(values(run(batch_of(ids), {.given = given})), whole);
  const GivenRows crossed[] = {given[1], given[0]};
  EXPECT_THROW(run(batch_, {.given = crossed}), CheckFailed);
}

TEST_F(Forward, GivenRowsAreLearnt) {
  tensor::Arena arena;
  tensor::Tape tape;
  Tensor prompt = Tensor::empty({2, model_.shape().d_model});
  for (int64_t i = 0; i < prompt.elements(); ++i) prompt.data()[i] = std::sin(static_cast<float>(i));
  const GivenRows given[] = {{0, prompt}};
  const std::vector<int32_t> targets(static_cast<size_t>(batch_.size()), 7);
  const auto loss = [&] {
    return cross_entropy(forward(model_.family(), context(batch_, nullptr), hooks_, {.given = given}), targets).mean();
  };
  tape.watch(prompt);
  tensor::Exec taped{.arena = &arena, .tape = &tape};
  {
    tensor::ExecScope scope(taped);
    tape.backward(loss());
  }
  for (const int64_t i : {int64_t{3}, prompt.dim(1) + 5}) {
    float& x = prompt.data()[i];
    const float at = x, step = 0.02f;
    x = at + step;
    const double above = loss().data()[0];
    x = at - step;
    const double below = loss().data()[0];
    x = at;
    EXPECT_NEAR(tape.grad(prompt).data()[i], (above - below) / (2 * step), 2e-3) << i;
  }
}

TEST_F(Forward, DroppedRowsAreGoneFromTheBlocksThatFollow) {
  const Tensor x = run(batch_, {.end_block = 1});
  const Tensor rest = slice(x, 0, 2, x.dim(0));
  const std::vector<float> want =
      values(run(batch_of(std::span(model_.ids()).subspan(2), 2), {.x = rest, .first_block = 1}));
  Batch batch = batch_;
  batch.logit_rows.erase(batch.logit_rows.begin(), batch.logit_rows.begin() + 2);
  Pass pass{.keep_rows = [&](int block, const Tensor& now) {
    EXPECT_EQ(block, 1);
    std::vector<int32_t> rows(static_cast<size_t>(now.dim(0)) - 2);
    std::iota(rows.begin(), rows.end(), 2);
    return rows;
  }};
  EXPECT_EQ(values(run(batch, pass)), want);
  EXPECT_THROW(run(batch_, pass), CheckFailed) << "its logits are wanted";
}

TEST_F(Forward, BlocksRunAgainGiveTheGradientsOfThePlainTapeInLessMemory) {
  std::vector<Tensor> parameters;
  for (const tensor::Parameter& p : model_.family().weights()) {
    if (!p.target->defined()) continue;
    parameters.push_back(tensor::weight_values(*p.target));
    *p.target = tensor::Weight::from(p.name, parameters.back());
  }
  std::vector<int32_t> ids;
  for (int i = 0; i < 8; ++i) ids.insert(ids.end(), model_.ids().begin(), model_.ids().end());
  Batch batch = batch_of(ids);
  batch.logit_rows = {static_cast<int32_t>(batch.size()) - 1};
  struct Outcome {
    std::vector<std::vector<float>> gradients;
    size_t peak;
  };
  const auto train = [&](bool recompute) {
    tensor::Arena arena;
    tensor::Tape tape;
    for (const Tensor& p : parameters) tape.watch(p);
    tensor::Exec taped{.arena = &arena, .tape = &tape};
    tensor::ExecScope scope(taped);
    const std::vector<int32_t> target = {5};
    tape.backward(
        cross_entropy(forward(model_.family(), context(batch, nullptr), hooks_, {.recompute = recompute}), target)
            .mean());
    Outcome outcome{{}, arena.peak_bytes()};
    for (const Tensor& p : parameters) outcome.gradients.push_back(values(tape.grad(p)));
    return outcome;
  };
  const Outcome plain = train(false), again = train(true);
  EXPECT_EQ(again.gradients, plain.gradients);
  EXPECT_LT(again.peak, plain.peak * 3 / 4);
}

}  // namespace forward_test
}  // namespace fovea::models
