// distill: the divergence of the model's words from a teacher's, KL(teacher || model) of both at a temperature, times
// its square. Hinton et al., arXiv:1503.02531.
// distill-hidden: the mean squared distance of the residual streams behind "layers" from the teacher's.
// distill-final: that of what the unembedding reads, of the tokens behind which something is wanted: with the model
// itself as teacher, what a method changes in the end. Xiao et al., arXiv:2410.10819, eq. 2.
#include <fmt/format.h>

#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/ops.h"
#include "fovea/train/losses/loss.h"

namespace fovea::train {
namespace {

using tensor::Tensor;

class Teacher {
 public:
  Teacher(Settings& settings, const TrainedModel& student) {
    const std::string name = settings.text("teacher", std::nullopt);
    if (!settings.good()) return;
    auto opened = TrainedModel::open_frozen(name, student.context());
    if (!opened) {
      settings.refuse(opened.error());
      return;
    }
    model_ = std::move(*opened);
    const int64_t theirs = model_->config().shape.vocab_size, ours = student.config().shape.vocab_size;
    if (theirs != ours)
      settings.wrong("teacher", fmt::format("has a vocabulary of {}, and the model one of {}", theirs, ours));
    const int64_t positions = model_->config().shape.n_ctx;
    if (student.context() > positions)
      settings.wrong("teacher", fmt::format("has {} positions, and the context is {}", positions, student.context()));
  }
  const TrainedModel& model() const { return *model_; }
  explicit operator bool() const { return model_ != nullptr; }
  // What `see` needs is what hooks leave there.
  Tensor logits(const MicroBatch& batch, const std::vector<int>& layers, std::map<int, Tensor>* hidden) const {
    tensor::Exec exec = tensor::Exec::current() ? *tensor::Exec::current() : tensor::Exec{};
    exec.tape = nullptr;
    exec.adapters = nullptr;
    exec.numerics = tensor::Numerics::kExact;
    const tensor::ExecScope scope(exec);
    attention::Hooks hooks(model_->hooks());
    for (const int layer : layers)
      (void)hooks.attach(Loss::hook_of(layer),
                         [hidden, layer](const std::string&, Tensor& x) { (*hidden)[layer] = x; });
    return model_->forward(batch, hooks, {});
  }

 private:
  std::unique_ptr<TrainedModel> model_;
};

class Distill final : public Loss {
 public:
  Distill(Settings& settings, const Context& context)
      : Loss(settings),
        teacher_(settings, *context.model),
        temperature_(static_cast<float>(settings.number("temperature", 1, 1e-3, 1e3))) {}
  int64_t count(const MicroBatch& batch) const override { return static_cast<int64_t>(batch.targets.size()); }
  Tensor sum(const View& view) const override {
    const Tensor theirs = teacher_.logits(view.batch, {}, nullptr);
    const auto words = [&](const Tensor& logits) {
      return tensor::log_softmax(tensor::affine(logits, 1 / temperature_));
    };
    return tensor::affine(tensor::kl_divergence(words(theirs), words(view.logits)), temperature_ * temperature_);
  }

 private:
  Teacher teacher_;
  float temperature_;
};
FOVEA_TRAIN_PART(Loss, "distill", Distill);

class DistillHidden final : public Loss {
 public:
  DistillHidden(Settings& settings, const Context& context) : Loss(settings), teacher_(settings, *context.model) {
    for (const int64_t layer : settings.integers("layers", {}, 0, 1 << 20)) layers_.push_back(static_cast<int>(layer));
    if (layers_.empty()) settings.wrong("layers", "is missing; a list of layers is needed");
    if (!teacher_ || !settings.good()) return;
    const auto &theirs = teacher_.model().config().shape, &ours = context.model->config().shape;
    if (theirs.d_model != ours.d_model)
      settings.wrong("teacher", fmt::format("is {} wide, and the model {}", theirs.d_model, ours.d_model));
    for (const int layer : layers_) {
      if (layer >= std::min(theirs.n_layers, ours.n_layers))
        settings.wrong("layers",
                       fmt::format("has {}; there are {} layers", layer, std::min(theirs.n_layers, ours.n_layers)));
    }
    width_ = ours.d_model;
  }
  std::vector<int> layers() const override { return layers_; }
  int64_t count(const MicroBatch& batch) const override {
    return batch.batch.size() * width_ * static_cast<int64_t>(layers_.size());
  }
  Tensor sum(const View& view) const override {
    std::map<int, Tensor> theirs;
    (void)teacher_.logits(view.batch, layers_, &theirs);
    Tensor all;
    for (const int layer : layers_) {
      const Tensor one = tensor::squared_error(view.hidden.at(layer), theirs.at(layer));
      all = all.defined() ? tensor::add(all, one) : one;
    }
    return all;
  }

 private:
  Teacher teacher_;
  std::vector<int> layers_;
  int64_t width_ = 1;
};
FOVEA_TRAIN_PART(Loss, "distill-hidden", DistillHidden);

class DistillFinal final : public Loss {
 public:
  DistillFinal(Settings& settings, const Context& context) : Loss(settings), teacher_(settings, *context.model) {
    if (!teacher_) return;
    width_ = context.model->config().shape.d_model;
    if (const int theirs = teacher_.model().config().shape.d_model; theirs != width_)
      settings.wrong("teacher", fmt::format("is {} wide, and the model {}", theirs, width_));
  }
  std::vector<int> layers() const override { return {kFinal}; }
  int64_t count(const MicroBatch& batch) const override { return std::ssize(batch.targets) * width_; }
  Tensor sum(const View& view) const override {
    std::map<int, Tensor> theirs;
    (void)teacher_.logits(view.batch, layers(), &theirs);
    return tensor::squared_error(view.hidden.at(kFinal), theirs.at(kFinal));
  }

 private:
  Teacher teacher_;
  int64_t width_ = 1;
};
FOVEA_TRAIN_PART(Loss, "distill-final", DistillFinal);

}  // namespace
}  // namespace fovea::train
