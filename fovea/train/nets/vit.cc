// {"net": "vit", ...}: a transformer over patches of an image with a class token and learned positions (Dosovitskiy et
// al., arXiv:2010.11929), pre-norm, trained on labels.
#include "fovea/train/nets/transformer.h"

namespace fovea::train {
namespace {

using attention::Site;
using tensor::Tensor;

class Vit final : public TransformerNet {
 public:
  Vit(Settings& s, const Context& context) : TransformerNet(context), picture_(read_picture(s)) {
    classes_ = s.integer("classes", std::nullopt, 2, 1 << 20);
    const TowerSizes sizes = read_tower(s);
    if (!s.good()) return;
    patches_ = Patches(params_, "", picture_, sizes.d_model, true);
    blocks_ = tower("blocks", sizes, Looks::kBothWays);
    norm_ = LayerNorm(params_, "norm", sizes.d_model);
    head_ = Linear(params_, "head", sizes.d_model, classes_);
    shape_.vocab_size = static_cast<int>(classes_);
  }

  Wants wants() const override {
    return {.channels = picture_.channels, .height = picture_.size, .width = picture_.size, .n_labels = classes_};
  }
  int64_t count(const std::vector<Sample>& samples) const override { return static_cast<int64_t>(samples.size()); }

  attention::HookMap hooks() const override {
    attention::HookMap map(shape_);
    map.add(Site::kEmbed);
    add_hooks(map, blocks_);
    map.add(Site::kLogits);
    return map;
  }

  Tensor loss_sum(const std::vector<Sample>& samples, const Pass& pass) const override {
    const auto batch = static_cast<int64_t>(samples.size());
    Tensor x = pass.hooks(Site::kEmbed, attention::kNoLayer, patches_(pixels_of(samples)));
    x = through(blocks_, x, rows(batch, patches_.n()), pass);
    std::vector<int32_t> first;
    for (int64_t i = 0; i < batch; ++i) first.push_back(static_cast<int32_t>(i * patches_.n()));
    return class_loss(head_(norm_(tensor::select_rows(x, first))), labels_of(samples), pass);
  }

 private:
  PictureSizes picture_;
  int64_t classes_ = 0;
  Patches patches_;
  Tower blocks_;
  LayerNorm norm_;
  Linear head_;
};
FOVEA_TRAIN_PART(TaskNet, "vit", Vit);

}  // namespace
}  // namespace fovea::train
