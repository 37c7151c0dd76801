// {"net": "two-tower", ...}: a picture and its caption near each other in one space, and those of other samples apart
// (CLIP, Radford et al., arXiv:2103.00020). A ViT says a picture by its class token, a transformer that looks back a
// caption by a row of its own behind the last word; the batch is what each is told apart from. Keys of captions are
// turned by their positions, where CLIP learns some.
#include <algorithm>
#include <cmath>

#include "fovea/train/nets/transformer.h"

namespace fovea::train {
namespace {

using attention::HookMap;
using attention::Site;
using tensor::Init;
using tensor::Tensor;
using tensor::Weight;

constexpr float kMostScale = 100;  // 1 / temperature: the paper's bound
// A picture and a caption in the space of both, not of length 1 yet: [batch, d_shared].
constexpr Site kOfPicture = attention::own_site(0), kOfCaption = attention::own_site(1);

class TwoTower final : public TransformerNet {
 public:
  TwoTower(Settings& s, const Context& context) : TransformerNet(context), picture_(read_picture(s)) {
    vocab_size_ = s.integer("vocab_size", std::nullopt, 2, 1 << 24);
    const TowerSizes vision = read_tower(s);
    Settings of_text = s.object("text");
    const TowerSizes text = read_tower(of_text, vision);
    d_shared_ = s.integer("d_shared", vision.d_model, 1, 1 << 16);
    const double temperature = s.number("temperature", 0.07, 1.0 / kMostScale, 100);
    if (!s.good()) return;
    if (text.head_dim() % 2 != 0) {
      of_text.wrong("n_heads", "leaves heads of an odd width");
      return;
    }
    patches_ = Patches(params_, "vision.", picture_, vision.d_model, true);
    vision_ = tower("vision.blocks", vision, Looks::kBothWays);
    vision_norm_ = LayerNorm(params_, "vision.norm", vision.d_model);
    vision_proj_ = Linear(params_, "vision.proj", vision.d_model, d_shared_, false);
    // The last row stands behind the words.
    words_ = Weight::from("words", params_.make("words.weight", {vocab_size_ + 1, text.d_model}, Init::normal(0.02f)));
    text_ = tower("blocks", text, Looks::kBack);
    text_norm_ = LayerNorm(params_, "norm", text.d_model);
    text_proj_ = Linear(params_, "proj", text.d_model, d_shared_, false);
    log_scale_ = params_.make("log_scale", {1}, Init::constant(static_cast<float>(-std::log(temperature))));
  }

  Wants wants() const override {
    return {.channels = picture_.channels,
            .height = picture_.size,
            .width = picture_.size,
            .vocab_size = vocab_size_,
            .batch = 2};
  }
  int64_t count(const std::vector<Sample>& samples) const override { return static_cast<int64_t>(samples.size()); }

  HookMap hooks() const override {
    HookMap map(shape_);
    add_hooks(map, vision_);
    map.add_own(kOfPicture, "vision.proj.hook_out", {HookMap::kTokens, d_shared_});
    add_hooks(map, text_);
    map.add_own(kOfCaption, "proj.hook_out", {HookMap::kTokens, d_shared_});
    return map;
  }

  Tensor loss_sum(const std::vector<Sample>& samples, const Pass& pass) const override {
    const Tensor pictures = of_pictures(samples, pass), captions = of_captions(samples, pass);
    const Tensor mean = tensor::contrastive_loss(pictures, captions, scale());
    return tensor::affine(mean, static_cast<float>(samples.size()));
  }

 private:
  // Held at the bound, with a slope as if it were not: else it could not come back.
  Tensor scale() const {
    const Tensor over = tensor::sub(tensor::clamp(log_scale_, -100, std::log(kMostScale)), log_scale_);
    return tensor::exp(tensor::add(log_scale_, tensor::stop_gradient(over)));
  }

  Tensor of_pictures(const std::vector<Sample>& samples, const Pass& pass) const {  // [batch, d_shared]
    const auto batch = static_cast<int64_t>(samples.size());
    const Tensor x = through(vision_, patches_(pixels_of(samples)), rows(batch, patches_.n()), pass);
    std::vector<int32_t> first;
    for (int64_t i = 0; i < batch; ++i) first.push_back(static_cast<int32_t>(i * patches_.n()));
    return pass.hooks(kOfPicture, attention::kNoLayer, vision_proj_(vision_norm_(tensor::select_rows(x, first))));
  }

  Tensor of_captions(const std::vector<Sample>& samples, const Pass& pass) const {  // [batch, d_shared]
    std::vector<int32_t> tokens, last;
    std::vector<int64_t> lengths;
    for (const Sample& sample : samples) {
      tokens.insert(tokens.end(), sample.tokens.begin(), sample.tokens.end());
      last.push_back(static_cast<int32_t>(tokens.size()));
      tokens.push_back(static_cast<int32_t>(vocab_size_));
      lengths.push_back(static_cast<int64_t>(sample.tokens.size()) + 1);
    }
    const Tensor x = through(text_, tensor::embed(words_, tokens), rows(lengths), pass);
    return pass.hooks(kOfCaption, attention::kNoLayer, text_proj_(text_norm_(tensor::select_rows(x, last))));
  }

  PictureSizes picture_;
  int64_t vocab_size_ = 0, d_shared_ = 0;
  Patches patches_;
  Tower vision_, text_;
  LayerNorm vision_norm_, text_norm_;
  Linear vision_proj_, text_proj_;
  Weight words_;
  Tensor log_scale_;
};
FOVEA_TRAIN_PART(TaskNet, "two-tower", TwoTower);

}  // namespace
}  // namespace fovea::train
