// {"net": "vlm", ...}: a decoder that reads a picture before its text (LLaVA, Liu et al., arXiv:2304.08485): patches
// through a ViT, each of them through a projector to a row of the decoder, then the tokens. Rows look back alone, and
// positions count on from the picture's to the text's. The loss is that of the tokens that the sample wants; where it
// wants none, of all of them. "trainable": ["projector.*"] is the first stage of the paper.
// The features are those of the last layer, without a norm: an encoder of another net is taken with a layer less.
#include <algorithm>
#include <utility>

#include "fovea/train/nets/transformer.h"

namespace fovea::train {
namespace {

using attention::Site;
using tensor::Init;
using tensor::Tensor;
using tensor::Weight;

constexpr Site kProjected = attention::own_site(0);  // projector.hook_out [patches, d_model]

class Vlm final : public TransformerNet {
 public:
  Vlm(Settings& s, const Context& context) : TransformerNet(context), picture_(read_picture(s)) {
    vocab_size_ = s.integer("vocab_size", std::nullopt, 2, 1 << 24);
    const TowerSizes text = read_tower(s);
    Settings of_vision = s.object("vision");
    const TowerSizes vision = read_tower(of_vision, text);
    const bool linear = s.one_of("projector", "mlp", {"mlp", "linear"}) == "linear";
    if (!s.good()) return;
    if (text.head_dim() % 2 != 0) {
      s.wrong("n_heads", "leaves heads of an odd width");
      return;
    }
    patches_ = Patches(params_, "vision.", picture_, vision.d_model, true);
    vision_ = tower("vision.blocks", vision, Looks::kBothWays);
    project1_ = Linear(params_, "projector.fc1", vision.d_model, text.d_model);
    if (!linear) project2_ = Linear(params_, "projector.fc2", text.d_model, text.d_model);
    words_ = Weight::from("words", params_.make("words.weight", {vocab_size_, text.d_model}, Init::normal(0.02f)));
    text_ = tower("blocks", text, Looks::kBack);
    norm_ = LayerNorm(params_, "norm", text.d_model);
    head_ = Linear(params_, "head", text.d_model, vocab_size_, false);
    shape_.d_model = static_cast<int>(text.d_model), shape_.d_ff = static_cast<int>(text.d_ff);
    shape_.vocab_size = static_cast<int>(vocab_size_);
  }

  Wants wants() const override {
    return {.channels = picture_.channels, .height = picture_.size, .width = picture_.size, .vocab_size = vocab_size_};
  }
  int64_t count(const std::vector<Sample>& samples) const override {
    size_t n = 0;
    for (const Sample& sample : samples) n += learned(sample).size();
    return static_cast<int64_t>(n);
  }

  attention::HookMap hooks() const override {
    attention::HookMap map(shape_);
    add_hooks(map, vision_);
    map.add_own(kProjected, "projector.hook_out", {attention::HookMap::kTokens, shape_.d_model});
    map.add(Site::kEmbed);
    add_hooks(map, text_);
    map.add(Site::kLogits);
    return map;
  }

  Tensor loss_sum(const std::vector<Sample>& samples, const Pass& pass) const override {
    const int64_t n = n_patches(), n_pictures = static_cast<int64_t>(samples.size()) * n;
    std::vector<int32_t> tokens, order, wanted, targets;  // the order is that of rows behind all pictures and all words
    std::vector<int64_t> lengths;
    for (size_t i = 0; i < samples.size(); ++i) {
      const auto first = static_cast<int64_t>(order.size());
      for (int64_t p = 0; p < n; ++p) order.push_back(static_cast<int32_t>(static_cast<int64_t>(i) * n + p));
      for (const int32_t token : samples[i].tokens) {
        order.push_back(static_cast<int32_t>(n_pictures + static_cast<int64_t>(tokens.size())));
        tokens.push_back(token);
      }
      for (const auto& [row, target] : learned(samples[i])) {
        wanted.push_back(static_cast<int32_t>(first + n + row));
        targets.push_back(target);
      }
      lengths.push_back(static_cast<int64_t>(order.size()) - first);
    }
    const Tensor both = tensor::concat({projected(samples, pass), tensor::embed(words_, tokens)}, 0);
    Tensor x = pass.hooks(Site::kEmbed, attention::kNoLayer, tensor::select_rows(both, order));
    x = through(text_, std::move(x), rows(lengths), pass);
    return class_loss(head_(norm_(tensor::select_rows(x, wanted))), targets, pass);  // the rows before what is learned
  }

 private:
  int64_t n_patches() const { return picture_.side() * picture_.side(); }

  // The tokens that are learned, each at the row before it; row -1 is the picture's last. A sample that wants its
  // second token wants the first too: nothing but the picture stands before it.
  static std::vector<std::pair<int64_t, int32_t>> learned(const Sample& sample) {
    const std::vector<int32_t>&tokens = sample.tokens, &targets = sample.targets;
    const auto n = static_cast<int64_t>(tokens.size());
    std::vector<std::pair<int64_t, int32_t>> out;
    if (sample.n_targets() == 0) {
      for (int64_t i = 0; i < n; ++i) out.emplace_back(i - 1, tokens[static_cast<size_t>(i)]);
      return out;
    }
    if (n > 1 && targets[0] == tokens[1]) out.emplace_back(-1, tokens[0]);
    for (int64_t i = 0; i < n; ++i) {
      if (targets[static_cast<size_t>(i)] >= 0) out.emplace_back(i, targets[static_cast<size_t>(i)]);
    }
    return out;
  }

  Tensor projected(const std::vector<Sample>& samples, const Pass& pass) const {  // [batch * n_patches(), d_model]
    const auto batch = static_cast<int64_t>(samples.size());
    const Tensor x = through(vision_, patches_(pixels_of(samples)), rows(batch, patches_.n()), pass);
    std::vector<int32_t> kept;  // all but the class tokens
    for (int64_t i = 0; i < x.dim(0); ++i) {
      if (i % patches_.n() != 0) kept.push_back(static_cast<int32_t>(i));
    }
    Tensor y = project1_(tensor::select_rows(x, kept));
    if (project2_.weight.defined()) y = project2_(tensor::gelu(y));
    return pass.hooks(kProjected, attention::kNoLayer, std::move(y));
  }

  PictureSizes picture_;
  int64_t vocab_size_ = 0;
  Patches patches_;
  Tower vision_, text_;
  Linear project1_, project2_, head_;
  Weight words_;
  LayerNorm norm_;
};
FOVEA_TRAIN_PART(TaskNet, "vlm", Vlm);

}  // namespace
}  // namespace fovea::train
