// {"net": "lstm", ...} and {"net": "gru", ...}: layers of recurrent cells over tokens, with an output at every row that
// something is wanted at. A classifier is one whose samples want something at their last row alone.
#include <algorithm>

#include "fovea/train/nets/task_net.h"

namespace fovea::train {
namespace {

using tensor::Init;
using tensor::Tensor;
using tensor::Weight;

// Names and order of the gates as in PyTorch's LSTM and GRU.
class Recurrent : public TaskNet {
 public:
  Recurrent(Settings& s, const Context& context, int64_t n_gates) : TaskNet(context) {
    vocab_size_ = s.integer("vocab_size", std::nullopt, 2, 1 << 24);
    outputs_ = s.integer("outputs", vocab_size_, 2, 1 << 24);
    d_model_ = s.integer("d_model", std::nullopt, 1, 1 << 16);
    const int64_t layers = s.integer("n_layers", 1, 1, 64);
    if (!s.good()) return;
    embed_ = Weight::from("embed", params_.make("embed.weight", {vocab_size_, d_model_}, Init::normal(1)));
    const Init init = Init::uniform(1 / std::sqrt(static_cast<float>(d_model_)));
    for (int64_t l = 0; l < layers; ++l) {
      const auto make = [&](const char* name, const tensor::Shape& shape) {
        const std::string full = std::string("rnn.") + name + "_l" + std::to_string(l);
        return Weight::from(full, params_.make(full, shape, init));
      };
      Layer layer;
      layer.w_ih = make("weight_ih", {n_gates * d_model_, d_model_});
      layer.w_hh = make("weight_hh", {n_gates * d_model_, d_model_});
      layer.b_ih = make("bias_ih", {n_gates * d_model_});
      layer.b_hh = make("bias_hh", {n_gates * d_model_});
      layers_.push_back(std::move(layer));
    }
    head_ = Linear(params_, "head", d_model_, outputs_);
    shape_.vocab_size = static_cast<int>(outputs_);
  }

  Wants wants() const override { return {.n_labels = outputs_, .vocab_size = vocab_size_}; }

  Tensor loss_sum(const std::vector<Sample>& samples, const Pass& pass) const override {
    const auto batch = static_cast<int64_t>(samples.size());
    int64_t steps = 0;
    for (const Sample& sample : samples) steps = std::max(steps, static_cast<int64_t>(sample.tokens.size()));
    // Row t batch + i is token t of sample i; behind its end it reads zeros, which no wanted row sees.
    std::vector<int32_t> tokens(static_cast<size_t>(steps * batch), 0), wanted, targets;
    for (int64_t t = 0; t < steps; ++t) {
      for (int64_t i = 0; i < batch; ++i) {
        const Sample& sample = samples[static_cast<size_t>(i)];
        const auto at = static_cast<size_t>(t);
        if (at >= sample.tokens.size()) continue;
        tokens[static_cast<size_t>(t * batch + i)] = sample.tokens[at];
        if (sample.targets[at] < 0) continue;
        wanted.push_back(static_cast<int32_t>(t * batch + i));
        targets.push_back(sample.targets[at]);
      }
    }
    Tensor x = tensor::embed(embed_, tokens);
    for (const Layer& layer : layers_) {
      if (pass.cancel && pass.cancel->load()) throw attention::Cancelled();
      x = run(layer, x, steps, batch);
    }
    return class_loss(head_(tensor::select_rows(x, wanted)), targets, pass);
  }

 protected:
  struct Layer {
    Weight w_ih, w_hh, b_ih, b_hh;
  };
  struct State {
    Tensor h, c;
  };
  virtual State next(const Tensor& from_x, const Tensor& from_h, const State& state) const = 0;

 private:
  Tensor run(const Layer& layer, const Tensor& x, int64_t steps, int64_t batch) const {
    const Tensor from_x = tensor::matmul(x, layer.w_ih, layer.b_ih);  // of all steps at once
    State state{Tensor::zeros({batch, d_model_}), Tensor::zeros({batch, d_model_})};
    std::vector<Tensor> out;
    for (int64_t t = 0; t < steps; ++t) {
      const Tensor here = tensor::slice(from_x, 0, t * batch, (t + 1) * batch);
      state = next(here, tensor::matmul(state.h, layer.w_hh, layer.b_hh), state);
      out.push_back(state.h);
    }
    return tensor::concat(out, 0);
  }

  int64_t vocab_size_ = 0, outputs_ = 0, d_model_ = 0;
  Weight embed_;
  std::vector<Layer> layers_;
  Linear head_;
};

class Lstm final : public Recurrent {
 public:
  Lstm(Settings& s, const Context& context) : Recurrent(s, context, 4) {}

 private:
  State next(const Tensor& from_x, const Tensor& from_h, const State& state) const override {
    const tensor::LstmState made = tensor::lstm_step(tensor::add(from_x, from_h), state.c);
    return {made.h, made.c};
  }
};
FOVEA_TRAIN_PART(TaskNet, "lstm", Lstm);

class Gru final : public Recurrent {
 public:
  Gru(Settings& s, const Context& context) : Recurrent(s, context, 3) {}

 private:
  State next(const Tensor& from_x, const Tensor& from_h, const State& state) const override {
    return {tensor::gru_step(from_x, from_h, state.h), {}};
  }
};
FOVEA_TRAIN_PART(TaskNet, "gru", Gru);

}  // namespace
}  // namespace fovea::train
