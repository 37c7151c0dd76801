// {"net": "mixer", ...}: layers that pass values from token to token without a softmax, in one pass of constant memory,
// each with an MLP behind it: `mixer` is
//   linear-attention  heads with keys and queries elu(x) + 1 (Katharopoulos et al., arXiv:2006.16236)
//   decay             h[t] = (1 - z[t]) h[t - 1] + z[t] u[t] with a gate z of the token (Feng et al., arXiv:2410.01201)
//   conv              a gate of the token times the last `kernel` tokens, each channel by itself, as BaseConv of Arora
//                     et al., arXiv:2312.04927
// An output stands at every row that something is wanted at.
#include <algorithm>
#include <string>

#include "fovea/train/nets/task_net.h"

namespace fovea::train {
namespace {

using tensor::Init;
using tensor::Tensor;
using tensor::Weight;

class Mixer final : public TaskNet {
 public:
  Mixer(Settings& s, const Context& context) : TaskNet(context) {
    vocab_size_ = s.integer("vocab_size", std::nullopt, 2, 1 << 24);
    d_model_ = s.integer("d_model", std::nullopt, 1, 1 << 16);
    const int64_t layers = s.integer("n_layers", 1, 1, 1 << 10), ff = s.integer("d_ff", 4 * d_model_, 1, 1 << 18);
    kind_ = s.one_of("mixer", kLinearAttention, {kLinearAttention, kDecay, kConv});
    if (kind_ == kLinearAttention) heads_ = s.integer("n_heads", 1, 1, 1 << 10);
    if (kind_ == kConv) kernel_ = s.integer("kernel", 4, 1, 1 << 12);
    if (!s.good()) return;
    if (d_model_ % heads_ != 0) {
      s.wrong("n_heads", "does not divide d_model");
      return;
    }
    embed_ = Weight::from("embed", params_.make("embed.weight", {vocab_size_, d_model_}, Init::normal(1)));
    for (int64_t l = 0; l < layers; ++l) blocks_.push_back(block("blocks." + std::to_string(l) + ".", ff));
    norm_ = LayerNorm(params_, "norm", d_model_);
    head_ = Linear(params_, "head", d_model_, vocab_size_);
    shape_.vocab_size = static_cast<int>(vocab_size_);
  }

  Wants wants() const override { return {.n_labels = vocab_size_, .vocab_size = vocab_size_}; }

  Tensor loss_sum(const std::vector<Sample>& samples, const Pass& pass) const override {
    const auto batch = static_cast<int64_t>(samples.size());
    int64_t steps = 0;
    for (const Sample& sample : samples) steps = std::max(steps, static_cast<int64_t>(sample.tokens.size()));
    // Row i steps + t is token t of sample i; what stands behind its end is seen by no wanted row.
    std::vector<int32_t> tokens(static_cast<size_t>(steps * batch), 0), wanted, targets;
    for (size_t i = 0; i < samples.size(); ++i) {
      const auto first = static_cast<int64_t>(i) * steps;
      std::copy(samples[i].tokens.begin(), samples[i].tokens.end(), tokens.begin() + first);
      for (size_t t = 0; t < samples[i].tokens.size(); ++t) {
        if (samples[i].targets[t] < 0) continue;
        wanted.push_back(static_cast<int32_t>(first + static_cast<int64_t>(t)));
        targets.push_back(samples[i].targets[t]);
      }
    }
    Tensor x = tensor::embed(embed_, tokens);
    for (const Block& b : blocks_) {
      if (pass.cancel && pass.cancel->load()) throw attention::Cancelled();
      x = tensor::add(x, b.out(mixed(b, b.norm1(x), batch, steps)));
      x = tensor::add(x, b.fc2(tensor::gelu(b.fc1(b.norm2(x)))));
    }
    return class_loss(head_(norm_(tensor::select_rows(x, wanted))), targets, pass);
  }

 private:
  static constexpr const char *kLinearAttention = "linear-attention", *kDecay = "decay", *kConv = "conv";
  struct Block {
    LayerNorm norm1, norm2;
    Linear q, k, v;      // of linear attention
    Linear gate, value;  // of the others
    Tensor filter, filter_bias;
    Linear out, fc1, fc2;
  };

  Block block(const std::string& at, int64_t ff) {
    Block b;
    b.norm1 = LayerNorm(params_, at + "norm1", d_model_);
    b.norm2 = LayerNorm(params_, at + "norm2", d_model_);
    const auto square = [&](const char* name) { return Linear(params_, at + "mix." + name, d_model_, d_model_); };
    if (kind_ == kLinearAttention) {
      b.q = square("q"), b.k = square("k"), b.v = square("v");
    } else {
      b.gate = square("gate"), b.value = square("value");
    }
    if (kind_ == kConv) {
      b.filter = params_.make(at + "mix.filter.weight", {d_model_, kernel_}, Init::kaiming_normal(1));
      b.filter_bias = params_.make(at + "mix.filter.bias", {d_model_}, Init::zeros());
    }
    b.out = square("out");
    b.fc1 = Linear(params_, at + "mlp.fc1", d_model_, ff);
    b.fc2 = Linear(params_, at + "mlp.fc2", ff, d_model_);
    return b;
  }

  // h [batch * steps, d_model]: the only place where rows of one sample meet.
  Tensor mixed(const Block& b, const Tensor& h, int64_t batch, int64_t steps) const {
    const auto of = [&](const Tensor& x) { return tensor::reshape(x, {batch, steps, d_model_}); };
    Tensor y;
    if (kind_ == kLinearAttention) {
      y = attended(of(positive(b.q(h))), of(positive(b.k(h))), b.v(h));
    } else if (kind_ == kDecay) {
      const Tensor z = tensor::sigmoid(b.gate(h));
      y = tensor::decay_scan(of(tensor::mul(z, b.value(h))), of(tensor::affine(z, -1, 1)));
    } else {
      const Tensor near = tensor::causal_conv1d(of(b.value(h)), b.filter, b.filter_bias);
      y = tensor::mul(of(b.gate(h)), near);
    }
    return tensor::reshape(y, {batch * steps, d_model_});
  }
  // elu(x) + 1 = max(x, 0) + exp(min(x, 0))
  static Tensor positive(const Tensor& x) {
    const Tensor below = tensor::affine(tensor::relu(tensor::affine(x, -1)), -1);
    return tensor::add(tensor::relu(x), tensor::exp(below));
  }
  // The weighted mean of values; a further column of ones in each head adds up the weights.
  Tensor attended(const Tensor& q, const Tensor& k, const Tensor& v) const {
    const int64_t batch = q.dim(0), steps = q.dim(1), width = d_model_ / heads_;
    const Tensor ones = tensor::pad(tensor::reshape(v, {batch, steps, heads_, width}), 3, 0, 1, 1);
    Tensor y = tensor::linear_attention(q, k, tensor::reshape(ones, {batch, steps, heads_ * (width + 1)}), heads_);
    y = tensor::reshape(y, {batch, steps, heads_, width + 1});
    const Tensor weights = tensor::affine(tensor::slice(y, 3, width, width + 1), 1, 1e-6f);
    return tensor::div(tensor::slice(y, 3, 0, width), weights);
  }

  int64_t vocab_size_ = 0, d_model_ = 0, heads_ = 1, kernel_ = 0;
  std::string kind_;
  Weight embed_;
  std::vector<Block> blocks_;
  LayerNorm norm_;
  Linear head_;
};
FOVEA_TRAIN_PART(TaskNet, "mixer", Mixer);

}  // namespace
}  // namespace fovea::train
