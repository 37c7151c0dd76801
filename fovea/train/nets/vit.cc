// {"net": "vit", ...}: a transformer over patches of an image with a class token and learned positions (Dosovitskiy et
// al., arXiv:2010.11929), pre-norm, trained on labels.
#include "fovea/tensor/ops/loss/cross_entropy.h"
#include "fovea/train/nets/task_net.h"

namespace fovea::train {
namespace {

using attention::Site;
using tensor::Init;
using tensor::Tensor;

class Vit final : public TaskNet {
 public:
  Vit(Settings& s, const Context& context) : TaskNet(context) {
    size_ = s.integer("size", std::nullopt, 1, 4096);
    patch_ = s.integer("patch", std::nullopt, 1, 512);
    channels_ = s.integer("channels", 3, 1, 64);
    classes_ = s.integer("classes", std::nullopt, 2, 1 << 20);
    d_model_ = s.integer("d_model", std::nullopt, 1, 1 << 16);
    heads_ = s.integer("n_heads", std::nullopt, 1, 1 << 10);
    const int64_t layers = s.integer("n_layers", std::nullopt, 1, 1 << 10),
                  ff = s.integer("d_ff", 4 * d_model_, 1, 1 << 18);
    if (!s.good()) return;
    if (size_ % patch_ != 0) {
      s.wrong("patch", "does not divide size");
      return;
    }
    if (d_model_ % heads_ != 0) {
      s.wrong("n_heads", "does not divide d_model");
      return;
    }
    const int64_t rows = patches() + 1;
    patch_embed_ = Conv(params_, "patch_embed", channels_, d_model_, patch_, {.stride = patch_});
    cls_ = params_.make("cls", {1, d_model_}, Init::normal(0.02f));
    positions_ = params_.make("positions", {rows, d_model_}, Init::normal(0.02f));
    for (int64_t l = 0; l < layers; ++l) {
      const std::string at = "blocks." + std::to_string(l) + ".";
      blocks_.push_back(Block(params_, at, d_model_, ff));
      add_attention(heads_, d_model_ / heads_);
    }
    shape_.d_ff = static_cast<int>(ff);
    norm_ = LayerNorm(params_, "norm", d_model_);
    head_ = Linear(params_, "head", d_model_, classes_);
  }

  Wants wants() const override {
    return {.channels = channels_, .height = size_, .width = size_, .n_labels = classes_};
  }
  int64_t count(const std::vector<Sample>& samples) const override { return static_cast<int64_t>(samples.size()); }

  attention::HookMap hooks() const override {
    using enum Site;
    attention::HookMap map(shape_);
    map.add(kEmbed);
    constexpr Site kSites[] = {kResidPre, kQ, kK, kV, kZ, kAttnOut, kResidMid, kMlpPre, kMlpPost, kMlpOut, kResidPost};
    for (int l = 0; l < shape_.n_layers; ++l)
      map.add({.layer = l, .name = "blocks." + std::to_string(l), .d_model = 0, .d_ff = 0}, kSites);
    return map;
  }

  Tensor loss_sum(const std::vector<Sample>& samples, const Pass& pass) const override {
    return tensor::cross_entropy(logits(pixels_of(samples), pass), labels_of(samples)).sum;
  }

 private:
  struct Block {
    Block(NetParams& params, const std::string& at, int64_t d, int64_t ff)
        : norm1(params, at + "norm1", d),
          norm2(params, at + "norm2", d),
          q(params, at + "attn.q", d, d),
          k(params, at + "attn.k", d, d, false),
          v(params, at + "attn.v", d, d),
          proj(params, at + "attn.proj", d, d),
          fc1(params, at + "mlp.fc1", d, ff),
          fc2(params, at + "mlp.fc2", ff, d) {}
    LayerNorm norm1, norm2;
    Linear q, k, v, proj, fc1, fc2;
  };
  int64_t patches() const { return size_ / patch_ * (size_ / patch_); }

  Tensor logits(const Tensor& images, const Pass& pass) const {
    attention::Hooks& hook = pass.hooks;
    const int64_t batch = images.dim(0), n = patches() + 1;
    Tensor x = tensor::permute(patch_embed_(images), {0, 2, 3, 1});  // [batch, height, width, d_model]
    x = tensor::reshape(x, {batch, patches(), d_model_});
    const Tensor cls = tensor::repeat(tensor::reshape(cls_, {1, 1, d_model_}), 0, batch);
    x = tensor::add_spread(tensor::concat({cls, x}, 1), positions_);
    x = hook(Site::kEmbed, attention::kNoLayer, tensor::reshape(x, {batch * n, d_model_}));
    const attention::Batch tokens = rows(batch, n);
    attention::Attend attend(attend_context(tokens, pass));
    for (int l = 0; l < shape_.n_layers; ++l) {
      const Block& b = blocks_[static_cast<size_t>(l)];
      x = hook(Site::kResidPre, l, x);
      Tensor h = b.norm1(x);
      const auto heads = [&](const Linear& by) { return tensor::split_heads(by(h), heads_); };
      const Tensor z = attend(l, {.q = heads(b.q), .k = heads(b.k), .v = heads(b.v), .x = x, .h = h});
      x = tensor::add(x, hook(Site::kAttnOut, l, b.proj(tensor::merge_heads(z))));
      x = hook(Site::kResidMid, l, x);
      h = hook(Site::kMlpPre, l, b.fc1(b.norm2(x)));
      h = hook(Site::kMlpPost, l, tensor::gelu(h));
      x = tensor::add(x, hook(Site::kMlpOut, l, b.fc2(h)));
      x = hook(Site::kResidPost, l, x);
    }
    std::vector<int32_t> first;
    for (int64_t i = 0; i < batch; ++i) first.push_back(static_cast<int32_t>(i * n));
    return head_(norm_(tensor::select_rows(x, first)));
  }

  int64_t size_ = 0, patch_ = 1, channels_ = 0, classes_ = 0, d_model_ = 0, heads_ = 1;
  Conv patch_embed_;
  Tensor cls_, positions_;
  std::vector<Block> blocks_;
  LayerNorm norm_;
  Linear head_;
};
FOVEA_TRAIN_PART(TaskNet, "vit", Vit);

}  // namespace
}  // namespace fovea::train
