// Which tokens a decoder with a picture before its text learns, and what each of them sees.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fovea/tensor/exec.h"
#include "fovea/tensor/tape.h"
#include "fovea/train/nets/task_net.h"

namespace fovea::train {
namespace vlm_test {

using tensor::Tensor;
using Json = nlohmann::ordered_json;

class PictureDecoder : public ::testing::Test {
 protected:
  void SetUp() override {
    Settings s(Json{{"size", 8}, {"patch", 4}, {"d_model", 16}, {"n_layers", 1}, {"n_heads", 2}, {"vocab_size", 9}},
               "f.json");
    net_ = make_part<TaskNet>(s, "net", "vlm", {.seed = 3});
    ASSERT_TRUE(s.finish().has_value()) << s.finish().error().message;
  }
  static Sample sample(std::vector<int32_t> tokens, std::vector<int32_t> targets, float pixel = 1) {
    auto picture = std::make_shared<Picture>();
    picture->channels = 3, picture->height = picture->width = 8;
    for (int i = 0; i < 3 * 64; ++i) picture->pixels.push_back(i % 7 == 0 ? pixel : 0.1f);
    Sample out{.tokens = std::move(tokens), .targets = std::move(targets)};
    out.picture = std::move(picture);
    return out;
  }
  float loss(const std::vector<Sample>& samples) const {
    tensor::Exec exec{.numerics = tensor::Numerics::kExact};
    const tensor::ExecScope scope(exec);
    attention::Hooks none(net_->hooks());
    return net_->loss_sum(samples, {none, nullptr, 7, nullptr}).data()[0];
  }
  std::unique_ptr<TaskNet> net_;
  static constexpr int32_t kNone = kNoTarget;
};

TEST_F(PictureDecoder, LearnsACaptionFromItsFirstToken) {
  const Sample caption = sample({3, 4, 5}, {4, 5, kNone});
  EXPECT_EQ(net_->count({caption}), 3);
  const Sample nothing_said = sample({3, 4, 5}, {kNone, kNone, kNone});
  EXPECT_EQ(net_->count({nothing_said}), 3);
  EXPECT_EQ(loss({caption}), loss({nothing_said}));
  EXPECT_EQ(net_->count({sample({}, {})}), 0);
}

TEST_F(PictureDecoder, LearnsOfAnAnswerWhatIsWanted) {
  const Sample answer = sample({3, 4, 5, 6}, {kNone, kNone, 6, kNone});
  EXPECT_EQ(net_->count({answer}), 1);
  EXPECT_EQ(net_->count({sample({3}, {6})}), 1);  // a prompt of one token
  EXPECT_EQ(net_->count({answer, sample({3, 4}, {4, kNone})}), 3);
}

TEST_F(PictureDecoder, SeesThePictureAndWhatStandsBefore) {
  const std::vector<int32_t> wanted = {kNone, 7, kNone, kNone};
  const float there = loss({sample({3, 4, 5, 6}, wanted)});
  EXPECT_EQ(loss({sample({3, 4, 8, 1}, wanted)}), there);
  EXPECT_NE(loss({sample({8, 4, 5, 6}, wanted)}), there);
  EXPECT_NE(loss({sample({3, 4, 5, 6}, wanted, 0.5f)}), there);
  const Sample other = sample({2}, {kNone}, 0.3f);
  const float alone = there + loss({other});
  EXPECT_NEAR(loss({other, sample({3, 4, 5, 6}, wanted)}), alone, 1e-5 * alone);
}

TEST_F(PictureDecoder, AHookSeesTheLogitsOfWhatIsLearned) {
  attention::Hooks hooks(net_->hooks());
  Tensor logits;
  ASSERT_TRUE(hooks
                  .attach("unembed.hook_out",
                          [&](const std::string&, Tensor& x) { logits = Tensor::from(x.shape(), x.values()); })
                  .has_value());
  const Sample answer = sample({3, 4, 5}, {kNone, kNone, 7}), caption = sample({3, 4}, {4, kNone});
  const float lost = net_->loss_sum({answer, caption}, {hooks, nullptr, 7, nullptr}).data()[0];
  ASSERT_EQ(logits.shape(), (tensor::Shape{3, 9}));
  EXPECT_FLOAT_EQ(tensor::cross_entropy(logits, std::vector<int32_t>{7, 3, 4}).sum.data()[0], lost);
}

TEST_F(PictureDecoder, ItsPictureStandsRightBeforeItsText) {
  // Rows of the picture may be words as well: then it is as if the text were longer.
  attention::Hooks hooks(net_->hooks());
  Tensor words;
  for (const Param& param : net_->params()) {
    if (param.name == "words.weight") words = param.value;
  }
  const std::vector<int32_t> prompt = {1, 2, 3, 4};  // as many as patches
  ASSERT_TRUE(hooks
                  .attach("projector.hook_out",
                          [&](const std::string&, Tensor& x) {
                            ASSERT_EQ(x.dim(0), 4);
                            x = tensor::select_rows(words, prompt);
                          })
                  .has_value());
  std::vector<float> embedded;
  ASSERT_TRUE(hooks
                  .attach("hook_embed",
                          [&](const std::string&, Tensor& x) { embedded.assign(x.values().begin(), x.values().end()); })
                  .has_value());
  tensor::Exec exec{.numerics = tensor::Numerics::kExact};
  const tensor::ExecScope scope(exec);
  (void)net_->loss_sum({sample({5, 6}, {6, kNone})}, {hooks, nullptr, 7, nullptr});
  const Tensor all = tensor::select_rows(words, std::vector<int32_t>{1, 2, 3, 4, 5, 6});
  EXPECT_EQ(embedded, std::vector<float>(all.values().begin(), all.values().end()));
}

}  // namespace vlm_test
}  // namespace fovea::train
