// {"net": "cnn", ...}: stages of convolution, group norm, ReLU and a pool that halves the picture, then the mean over
// all places; trained on labels.
#include "fovea/train/nets/task_net.h"

namespace fovea::train {
namespace {

using tensor::Tensor;

class Cnn final : public TaskNet {
 public:
  Cnn(Settings& s, const Context& context) : TaskNet(context) {
    size_ = s.integer("size", std::nullopt, 2, 4096);
    channels_ = s.integer("channels", 3, 1, 64);
    classes_ = s.integer("classes", std::nullopt, 2, 1 << 20);
    const std::vector<int64_t> widths = s.integers("widths", {32, 64, 128}, 1, 1 << 14);
    if (!s.good()) return;
    if (widths.empty() || size_ >> widths.size() < 1) {
      s.wrong("widths", "has no stage, or more than the picture can be halved");
      return;
    }
    int64_t in = channels_;
    for (const int64_t width : widths) {
      const std::string at = "stages." + std::to_string(stages_.size()) + ".";
      stages_.push_back(Stage(params_, at, in, width));
      in = width;
    }
    head_ = Linear(params_, "head", in, classes_);
    shape_.vocab_size = static_cast<int>(classes_);
  }

  Wants wants() const override {
    return {.channels = channels_, .height = size_, .width = size_, .n_labels = classes_};
  }
  int64_t count(const std::vector<Sample>& samples) const override { return static_cast<int64_t>(samples.size()); }

  Tensor loss_sum(const std::vector<Sample>& samples, const Pass& pass) const override {
    Tensor x = pixels_of(samples);
    for (const Stage& stage : stages_)
      x = tensor::max_pool(tensor::relu(stage.norm(stage.conv(x))), {.size = 2, .stride = 2});
    x = tensor::mean(tensor::reshape(x, {x.dim(0), x.dim(1), x.dim(2) * x.dim(3)}), 2);  // [batch, width]
    return class_loss(head_(x), labels_of(samples), pass);
  }

 private:
  struct Stage {
    Stage(NetParams& params, const std::string& at, int64_t in, int64_t out)
        : conv(params, at + "conv", in, out, 3, {.pad = 1}), norm(params, at + "norm", out) {}
    Conv conv;
    GroupNorm norm;
  };
  int64_t size_ = 0, channels_ = 0, classes_ = 0;
  std::vector<Stage> stages_;
  Linear head_;
};
FOVEA_TRAIN_PART(TaskNet, "cnn", Cnn);

}  // namespace
}  // namespace fovea::train
