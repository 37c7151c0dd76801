#include "fovea/train/losses/loss.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "fovea/base/testing/paths.h"
#include "fovea/tensor/ops/ops.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::train {
namespace loss_test {

using tensor::Tensor;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

double dot(const Tensor& a, int64_t i, const Tensor& b, int64_t j) {
  double sum = 0;
  for (int64_t c = 0; c < a.dim(1); ++c) sum += double{a.data()[i * a.dim(1) + c]} * b.data()[j * b.dim(1) + c];
  return sum;
}

TEST(Losses, MeansAreOfAllElements) {
  const Tensor x = Tensor::from({2, 2}, std::vector<float>{1, 2, 3, 4}), zero = Tensor::zeros({2, 2});
  EXPECT_FLOAT_EQ(mean_squared_error(x, zero).data()[0], 7.5f);
  EXPECT_FLOAT_EQ(binary_loss(zero, zero).data()[0], std::log(2.0f));
  EXPECT_FLOAT_EQ(class_loss(zero, std::vector<int32_t>{0, 1}).data()[0], std::log(2.0f));
}

TEST(Losses, ContrastiveIsItsFormula) {
  const Tensor a = tensor::random_tensor({3, 4}, 1), b = tensor::random_tensor({3, 4}, 2);
  double twin = 0;
  for (int64_t i = 0; i < 3; ++i) {
    double rows = 0, cols = 0, own = 0;
    for (int64_t j = 0; j < 3; ++j) {
      const auto cosine = [&](int64_t p, int64_t q) {
        return dot(a, p, b, q) / std::sqrt(dot(a, p, a, p) * dot(b, q, b, q)) / 0.5;
      };
      rows += std::exp(cosine(i, j)), cols += std::exp(cosine(j, i));
      if (i == j) own = cosine(i, i);
    }
    twin += (std::log(rows) - own + std::log(cols) - own) / 6;
  }
  EXPECT_NEAR(contrastive_loss(a, b, 0.5f).data()[0], twin, 1e-5);
}

// What a loss of a config gives for the logits of two rows.
class ConfigLoss : public ::testing::Test {
 protected:
  void SetUp() override {
    Json config = {{"model", {{"net", "llama"}, {"d_model", 16}, {"n_layers", 2}, {"n_heads", 2}, {"vocab_size", 5}}}};
    settings_.emplace(config, "f.json");
    auto opened = TrainedModel::open(*settings_, 4);
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    model_ = std::move(*opened);
  }
  std::unique_ptr<Loss> make(const Json& settings) {
    Settings s(settings, "f.json");
    auto made = make_part<Loss>(s, "name", s.text("name", ""), {.model = model_.get()});
    const Status end = s.finish();
    error_ = end ? "" : end.error().message;
    return made;
  }
  std::optional<Settings> settings_;
  std::unique_ptr<TrainedModel> model_;
  std::string error_;
};

TEST_F(ConfigLoss, NextTokenCountsWhatIsWanted) {
  const auto loss = make({{"name", "next-token"}, {"weight", 2}});
  ASSERT_NE(loss, nullptr);
  EXPECT_EQ(loss->weight(), 2);
  const MicroBatch batch({{{1, 2, 3}, {kNoTarget, 3, 4}}});
  EXPECT_EQ(loss->count(batch), 2);
  EXPECT_THAT(batch.batch.logit_rows, ::testing::ElementsAre(1, 2));
  const Tensor logits = Tensor::zeros({2, 5});
  EXPECT_FLOAT_EQ(loss->sum({.batch = batch, .logits = logits, .hidden = {}}).data()[0], 2 * std::log(5.0f));
}

TEST_F(ConfigLoss, RegularisersSumOverNamedParameters) {
  const auto loss = make({{"name", "l2"}, {"parameters", {"blk.0.attn_norm.weight", "*lm_head*"}}});
  ASSERT_NE(loss, nullptr) << error_;
  double twin = 0;
  for (const Param& p : model_->params()) {
    if (p.name == "blk.0.attn_norm.weight" || p.name == "output.weight") twin += sum_of_squares(p.value);
  }
  EXPECT_GT(twin, 16);  // norms are ones
  const MicroBatch batch({{{1}, {2}}});
  EXPECT_NEAR(loss->sum({.batch = batch, .logits = {}, .hidden = {}}).data()[0], twin, 1e-4);
  (void)make({{"name", "l1"}, {"parameters", "blk.7.*"}});
  EXPECT_THAT(error_, HasSubstr("\"blk.7.*\" fits no parameter"));
}

TEST_F(ConfigLoss, RegularisersLeaveOutWhatAGlobTakesAway) {
  const MicroBatch batch({{{1}, {2}}});
  const auto of = [&](const Json& globs) {
    const auto loss = make({{"name", "l2"}, {"parameters", globs}});
    return loss && error_.empty() ? loss->sum({.batch = batch, .logits = {}, .hidden = {}}).data()[0] : -1;
  };
  EXPECT_NEAR(of({"*"}) - of({"*", "!blk.0.attn_norm.weight"}), 16, 1e-3);
  EXPECT_EQ(of({"!blk.0.attn_norm.weight"}), -1);
  EXPECT_THAT(error_, HasSubstr("leaves no parameter"));
}

TEST_F(ConfigLoss, AMeanOfARegulariserIsOverAllElements) {
  const MicroBatch batch({{{1}, {2}}});
  const auto of = [&](bool mean) {
    const auto loss = make({{"name", "l1"}, {"parameters", {"blk.*.attn_norm.weight"}}, {"mean", mean}});
    return loss->sum({.batch = batch, .logits = {}, .hidden = {}}).data()[0];
  };
  EXPECT_FLOAT_EQ(of(false), 32);
  EXPECT_FLOAT_EQ(of(true), 1);
}

// With the model itself as teacher: nothing, and with a method the distance that it makes in what is unembedded.
TEST_F(ConfigLoss, DistillFinalIsTheDistanceOfWhatIsUnembedded) {
  const std::string tiny = source_dir() + "/tests/data/tiny-llama.gguf";
  const auto open = [&](const char* attention) {
    settings_.emplace(Json{{"model", tiny}, {"attention", attention}, {"trainable", {"*norm.weight"}}}, "f.json");
    auto opened = TrainedModel::open(*settings_, 40);
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    model_ = std::move(*opened);
  };
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 40; ++i) ids.push_back(5 + i * i % 60);
  Sample sample = Sample::next_token(ids);
  std::fill_n(sample.targets.begin(), 30, kNoTarget);
  const MicroBatch batch({sample});
  ASSERT_EQ(batch.targets.size(), 9u);
  const auto final_of = [&](const TrainedModel& model) {
    attention::Hooks hooks(model.hooks());
    std::map<int, Tensor> seen;
    EXPECT_TRUE(
        hooks
            .attach(Loss::hook_of(Loss::kFinal),
                    [&](const std::string&, Tensor& x) { seen[Loss::kFinal] = Tensor::from(x.shape(), x.values()); })
            .has_value());
    tensor::Tape tape;
    tensor::Exec exec{.numerics = tensor::Numerics::kExact, .tape = &tape};
    const tensor::ExecScope scope(exec);
    (void)model.forward(batch, hooks, {});
    return seen;
  };
  std::map<int, Tensor> dense;
  for (const char* attention :
       {"dense", "duo-attention:mix=true", "duo-attention:mix=true:sink=1:recent=4:start=0.5"}) {
    open(attention);
    const auto loss = make({{"name", "distill-final"}, {"teacher", tiny}});
    ASSERT_NE(loss, nullptr) << error_;
    ASSERT_EQ(error_, "");
    const auto hidden = final_of(*model_);
    const Tensor& mine = hidden.at(Loss::kFinal);
    EXPECT_EQ(mine.dim(0), 9);
    EXPECT_EQ(loss->count(batch), mine.elements());
    if (dense.empty()) dense = hidden;
    double twin = 0;
    for (int64_t i = 0; i < mine.elements(); ++i)
      twin += std::pow(double{mine.data()[i]} - dense.at(Loss::kFinal).data()[i], 2);
    const float found = loss->sum({.batch = batch, .logits = {}, .hidden = hidden}).data()[0];
    EXPECT_NEAR(found, twin, 1e-5 * twin);
    EXPECT_EQ(found > 0, std::string(attention).ends_with("0.5")) << attention << " " << found;
  }
}

TEST_F(ConfigLoss, L0IsTheShareThatStays) {
  (void)make({{"name", "l0"}});
  EXPECT_THAT(error_, HasSubstr("name is l0, and no masks are trained"));
  const Json net = {{"net", "llama"}, {"d_model", 16}, {"n_layers", 2}, {"n_heads", 2}, {"vocab_size", 5}};
  const Json masks = {{"targets", {"blk.*.attn_k.weight"}}, {"init", 0.8}, {"temperature", 0.5}};
  settings_.emplace(Json{{"model", net}, {"trainable", {{"masks", masks}}}}, "f.json");
  auto opened = TrainedModel::open(*settings_, 4);
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  model_ = std::move(*opened);
  const auto loss = make({{"name", "l0"}, {"weight", 3}});
  ASSERT_NE(loss, nullptr) << error_;
  const MicroBatch batch({{{1}, {2}}});
  const auto sum = [&] { return loss->sum({.batch = batch, .logits = {}, .hidden = {}}); };
  EXPECT_NEAR(sum().data()[0], 0.8, 1e-6);
  Tensor scores = model_->params()[1].value;
  std::fill_n(scores.data(), scores.elements(), -20.0f);  // one of two of a size
  EXPECT_NEAR(sum().data()[0], 0.4, 1e-6);
  std::fill_n(scores.data(), scores.elements(), 0.1f);
  tensor::expect_gradients({scores}, sum);
}

TEST_F(ConfigLoss, RefusesATeacherOfFewerPositions) {
  Json config = {{"model", {{"net", "llama"}, {"d_model", 16}, {"n_layers", 1}, {"n_heads", 2}, {"vocab_size", 96}}}};
  config["model"]["n_ctx"] = 1024;
  settings_.emplace(config, "f.json");
  auto opened = TrainedModel::open(*settings_, 193);
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  model_ = std::move(*opened);
  (void)make({{"name", "distill"}, {"teacher", source_dir() + "/tests/data/families/gpt2"}});
  EXPECT_THAT(error_, HasSubstr("teacher has 192 positions, and the context is 193"));
}

TEST_F(ConfigLoss, RefusesATeacherOfOtherWords) {
  (void)make({{"name", "distill"}, {"teacher", source_dir() + "/tests/data/tiny-llama.gguf"}});
  EXPECT_THAT(error_, HasSubstr("and the model one of 5"));
  (void)make({{"name", "distill"}, {"teacher", source_dir() + "/tests/data/encoders/bert"}});
  EXPECT_THAT(error_, HasSubstr("an encoder gives no logits to learn from"));
  (void)make({{"name", "distill-final"}});
  EXPECT_THAT(error_, HasSubstr("teacher"));
  (void)make({{"name", "distil"}});
  EXPECT_THAT(error_, HasSubstr("did you mean distill?"));
}

}  // namespace loss_test
}  // namespace fovea::train
