// {"net": "dit", ...}: a diffusion transformer (Peebles & Xie, arXiv:2212.09748): patches of a noisy picture through
// blocks that the step of the schedule and a class shift, scale and gate (adaLN-zero), and out of them the noise. At
// first every gate is 0, so that a block changes nothing and the noise found is 0. A share of the labels is left out in
// training (class_dropout), so that the net learns the noise of no class too.
// Not done here: the learned variance.
#include <cmath>
#include <utility>

#include "fovea/base/random.h"
#include "fovea/train/nets/noise.h"
#include "fovea/train/nets/transformer.h"

namespace fovea::train {
namespace {

using attention::Site;
using tensor::Init;
using tensor::Tensor;
using tensor::Weight;

constexpr int64_t kTimeWidth = 256;  // sines of the time

Tensor plain_norm(const Tensor& x) { return tensor::layer_norm(x, {}, {}, 1e-6f); }

// sin and cos of a patch's column, then of its row: [side * side, d]
Tensor grid_positions(int64_t side, int64_t d) {
  Tensor x = Tensor::empty({side * side, d});
  const int64_t quarter = d / 4;
  for (int64_t at = 0; at < side * side; ++at) {
    for (int64_t i = 0; i < quarter; ++i) {
      const double slower = std::pow(1e4, -static_cast<double>(i) / static_cast<double>(quarter));
      const double column = static_cast<double>(at % side) * slower, row = static_cast<double>(at / side) * slower;
      float* out = x.data() + at * d + i;
      out[0] = static_cast<float>(std::sin(column));
      out[quarter] = static_cast<float>(std::cos(column));
      out[2 * quarter] = static_cast<float>(std::sin(row));
      out[3 * quarter] = static_cast<float>(std::cos(row));
    }
  }
  return x;
}

class Dit final : public TaskNet {
 public:
  Dit(Settings& s, const Context& context) : TaskNet(context), picture_(read_picture(s)) {
    classes_ = s.integer("classes", 0, 0, 1 << 20);
    if (classes_ > 0) class_dropout_ = s.number("class_dropout", 0.1, 0, 1);
    sizes_ = read_tower(s);
    if (!s.good()) return;
    if (sizes_.d_model % 4 != 0) {
      s.wrong("d_model", "is no multiple of 4, as sines of rows and columns need");
      return;
    }
    build();
  }

  Wants wants() const override {
    return {.channels = picture_.channels, .height = picture_.size, .width = picture_.size, .n_labels = classes_};
  }
  int64_t count(const std::vector<Sample>& samples) const override {
    return static_cast<int64_t>(samples.size()) * picture_.channels * picture_.size * picture_.size;
  }

  attention::HookMap hooks() const override {
    attention::HookMap map(shape_);
    map.add(Site::kEmbed);
    for (int l = 0; l < shape_.n_layers; ++l) add_block_hooks(map, l, "blocks." + std::to_string(l), sizes_);
    return map;
  }

  Tensor loss_sum(const std::vector<Sample>& samples, const Pass& pass) const override {
    const NoisyPictures in = schedule_(samples, pass.key);
    Tensor condition = time2_(tensor::silu(time1_(sines_of(in.times, kTimeWidth))));
    if (classes_ > 0) condition = tensor::add(condition, tensor::embed(labels_, known_labels(samples, pass.key)));
    return tensor::squared_error(predict(in.pixels, tensor::silu(condition), pass), in.noise);
  }

 private:
  struct Block {
    Block(NetParams& params, const std::string& at, const TowerSizes& sizes)
        : modulation(params, at + "modulation", sizes.d_model, 6 * sizes.d_model, true, Init::zeros()),
          q(params, at + "attn.q", sizes.d_model, sizes.d_model, true, Init::xavier_uniform()),
          k(params, at + "attn.k", sizes.d_model, sizes.d_model, false, Init::xavier_uniform()),
          v(params, at + "attn.v", sizes.d_model, sizes.d_model, true, Init::xavier_uniform()),
          proj(params, at + "attn.proj", sizes.d_model, sizes.d_model, true, Init::xavier_uniform()),
          fc1(params, at + "mlp.fc1", sizes.d_model, sizes.d_ff, true, Init::xavier_uniform()),
          fc2(params, at + "mlp.fc2", sizes.d_ff, sizes.d_model, true, Init::xavier_uniform()) {}
    Linear modulation, q, k, v, proj, fc1, fc2;
  };

  void build() {
    const int64_t d = sizes_.d_model, patch = picture_.patch;
    patch_embed_ = Conv(params_, "patch_embed", picture_.channels, d, patch, {.stride = patch}, Init::xavier_uniform());
    positions_ = grid_positions(picture_.side(), d);
    time1_ = Linear(params_, "time.fc1", kTimeWidth, d);
    time2_ = Linear(params_, "time.fc2", d, d);
    if (classes_ > 0) {  // the last row is of no class
      const int64_t n = classes_ + (class_dropout_ > 0 ? 1 : 0);
      labels_ = Weight::from("labels", params_.make("labels.weight", {n, d}, Init::normal(0.02f)));
    }
    for (int64_t l = 0; l < sizes_.n_layers; ++l) {
      blocks_.push_back(Block(params_, "blocks." + std::to_string(l) + ".", sizes_));
      add_attention(sizes_.n_heads, sizes_.head_dim());
    }
    shape_.d_ff = static_cast<int>(sizes_.d_ff);
    last_modulation_ = Linear(params_, "last.modulation", d, 2 * d, true, Init::zeros());
    last_ = Linear(params_, "last.out", d, patch * patch * picture_.channels, true, Init::zeros());
  }

  std::vector<int32_t> known_labels(const std::vector<Sample>& samples, uint64_t key) const {
    std::vector<int32_t> labels = labels_of(samples);
    for (size_t i = 0; i < labels.size(); ++i) {
      Rng rng(Rng(key ^ 0x6c61626c).next() ^ i * 0x9e3779b97f4a7c15u);
      if (rng.uniform() < class_dropout_) labels[i] = static_cast<int32_t>(classes_);
    }
    return labels;
  }

  // The noise in `pictures`, whose times and classes are the rows of `condition`.
  Tensor predict(const Tensor& pictures, const Tensor& condition, const Pass& pass) const {
    attention::Hooks& hook = pass.hooks;
    const int64_t batch = pictures.dim(0), side = picture_.side(), n = side * side, d = sizes_.d_model;
    Tensor x = tensor::permute(patch_embed_(pictures), {0, 2, 3, 1});  // [batch, side, side, d_model]
    x = tensor::add_spread(tensor::reshape(x, {batch, n, d}), positions_);
    x = hook(Site::kEmbed, attention::kNoLayer, tensor::reshape(x, {batch * n, d}));
    const attention::Batch tokens = rows(batch, n);
    attention::Attend attend(attend_context(tokens, pass));
    for (int l = 0; l < shape_.n_layers; ++l) {
      const Block& b = blocks_[static_cast<size_t>(l)];
      const Tensor all = b.modulation(condition);  // [batch, 6 d_model]
      const auto part = [&](int64_t i) { return tensor::slice(all, 1, i * d, (i + 1) * d); };
      const auto gated = [&](const Tensor& h, const Tensor& gate) {
        const Tensor y = tensor::mul_spread(tensor::reshape(h, {batch, n, d}), tensor::reshape(gate, {batch, 1, d}));
        return tensor::reshape(y, {batch * n, d});
      };
      x = hook(Site::kResidPre, l, x);
      Tensor h = tensor::modulate(plain_norm(x), part(1), part(0));
      const auto heads = [&](const Linear& by) { return tensor::split_heads(by(h), sizes_.n_heads); };
      const Tensor z = attend(l, {.q = heads(b.q), .k = heads(b.k), .v = heads(b.v), .x = x, .h = h});
      x = tensor::add(x, hook(Site::kAttnOut, l, gated(b.proj(tensor::merge_heads(z)), part(2))));
      x = hook(Site::kResidMid, l, x);
      h = hook(Site::kMlpPre, l, b.fc1(tensor::modulate(plain_norm(x), part(4), part(3))));
      h = hook(Site::kMlpPost, l, tensor::gelu(h, tensor::Gelu::kTanh));
      x = tensor::add(x, hook(Site::kMlpOut, l, gated(b.fc2(h), part(5))));
      x = hook(Site::kResidPost, l, x);
    }
    const Tensor all = last_modulation_(condition);
    x = last_(tensor::modulate(plain_norm(x), tensor::slice(all, 1, d, 2 * d), tensor::slice(all, 1, 0, d)));
    // Of a patch, pixel after pixel -> [batch, size, size, channels]
    const int64_t patch = picture_.patch, channels = picture_.channels;
    x = tensor::permute(tensor::reshape(x, {batch * side, side, patch, patch * channels}), {0, 2, 1, 3});
    return tensor::permute(tensor::reshape(x, {batch, picture_.size, picture_.size, channels}), {0, 3, 1, 2});
  }

  PictureSizes picture_;
  TowerSizes sizes_;
  int64_t classes_ = 0;
  double class_dropout_ = 0;
  NoiseSchedule schedule_;
  Conv patch_embed_;
  Tensor positions_;
  Linear time1_, time2_;
  Weight labels_;
  std::vector<Block> blocks_;
  Linear last_modulation_, last_;
};
FOVEA_TRAIN_PART(TaskNet, "dit", Dit);

}  // namespace
}  // namespace fovea::train
