#include "fovea/train/nets/transformer.h"

#include <utility>

namespace fovea::train {

using attention::Site;
using tensor::Init;
using tensor::Tensor;

TowerSizes read_tower(Settings& s, const std::optional<TowerSizes>& otherwise) {
  using Maybe = std::optional<int64_t>;
  TowerSizes sizes;
  sizes.d_model = s.integer("d_model", otherwise ? Maybe(otherwise->d_model) : Maybe(), 1, 1 << 16);
  sizes.n_layers = s.integer("n_layers", otherwise ? Maybe(otherwise->n_layers) : Maybe(), 1, 1 << 10);
  sizes.n_heads = s.integer("n_heads", otherwise ? Maybe(otherwise->n_heads) : Maybe(), 1, 1 << 10);
  sizes.d_ff = s.integer("d_ff", 4 * sizes.d_model, 1, 1 << 18);
  if (s.good() && sizes.d_model % sizes.n_heads != 0) s.wrong("n_heads", "does not divide d_model");
  return sizes;
}

PictureSizes read_picture(Settings& s) {
  PictureSizes sizes;
  sizes.size = s.integer("size", std::nullopt, 1, 4096);
  sizes.patch = s.integer("patch", std::nullopt, 1, 512);
  sizes.channels = s.integer("channels", 3, 1, 64);
  if (s.good() && sizes.size % sizes.patch != 0) s.wrong("patch", "does not divide size");
  return sizes;
}

Patches::Patches(NetParams& params, const std::string& at, const PictureSizes& sizes, int64_t d_model, bool classed)
    : embed(params, at + "patch_embed", sizes.channels, d_model, sizes.patch, {.stride = sizes.patch}) {
  if (classed) cls = params.make(at + "cls", {1, d_model}, Init::normal(0.02f));
  const int64_t rows = sizes.side() * sizes.side() + (classed ? 1 : 0);
  positions = params.make(at + "positions", {rows, d_model}, Init::normal(0.02f));
}

Tensor Patches::operator()(const Tensor& pictures) const {
  const int64_t batch = pictures.dim(0), d = positions.dim(1);
  Tensor x = tensor::permute(embed(pictures), {0, 2, 3, 1});  // [batch, height, width, d_model]
  x = tensor::reshape(x, {batch, x.dim(1) * x.dim(2), d});
  if (cls.defined()) x = tensor::concat({tensor::repeat(tensor::reshape(cls, {1, 1, d}), 0, batch), x}, 1);
  return tensor::reshape(tensor::add_spread(x, positions), {batch * n(), d});
}

TransformerBlock::TransformerBlock(NetParams& params, const std::string& at, const TowerSizes& sizes)
    : n_heads(sizes.n_heads),
      norm1(params, at + "norm1", sizes.d_model),
      norm2(params, at + "norm2", sizes.d_model),
      q(params, at + "attn.q", sizes.d_model, sizes.d_model),
      k(params, at + "attn.k", sizes.d_model, sizes.d_model, false),
      v(params, at + "attn.v", sizes.d_model, sizes.d_model),
      proj(params, at + "attn.proj", sizes.d_model, sizes.d_model),
      fc1(params, at + "mlp.fc1", sizes.d_model, sizes.d_ff),
      fc2(params, at + "mlp.fc2", sizes.d_ff, sizes.d_model) {}

Tensor TransformerBlock::operator()(Tensor x, int layer, attention::Attend& attend, attention::Hooks& hook) const {
  x = hook(Site::kResidPre, layer, std::move(x));
  x = hook(Site::kResidMid, layer, attend_to(x, layer, attend, hook));
  return hook(Site::kResidPost, layer, mlp(x, layer, hook));
}

Tensor TransformerBlock::attend_to(const Tensor& x, int layer, attention::Attend& attend,
                                   attention::Hooks& hook) const {
  const Tensor h = norm1(x);
  const auto heads = [&](const Linear& by) { return tensor::split_heads(by(h), n_heads); };
  const Tensor z = attend(layer, {.q = heads(q), .k = heads(k), .v = heads(v), .x = x, .h = h});
  return tensor::add(x, hook(Site::kAttnOut, layer, proj(tensor::merge_heads(z))));
}

Tensor TransformerBlock::mlp(const Tensor& x, int layer, attention::Hooks& hook) const {
  Tensor h = hook(Site::kMlpPre, layer, fc1(norm2(x)));
  h = hook(Site::kMlpPost, layer, tensor::gelu(h));
  return tensor::add(x, hook(Site::kMlpOut, layer, fc2(h)));
}

void add_block_hooks(attention::HookMap& map, int layer, const std::string& name, const TowerSizes& sizes) {
  using enum Site;
  constexpr Site kSites[] = {kResidPre, kQ,        kK,      kV,       kScores, kPattern,  kZ,
                             kAttnOut,  kResidMid, kMlpPre, kMlpPost, kMlpOut, kResidPost};
  map.add(
      {.layer = layer, .name = name, .d_model = static_cast<int>(sizes.d_model), .d_ff = static_cast<int>(sizes.d_ff)},
      kSites);
}

TransformerNet::Tower TransformerNet::tower(const std::string& name, const TowerSizes& sizes, Looks looks) {
  Tower made{.name = name, .first = shape_.n_layers, .sizes = sizes, .blocks = {}};
  for (int64_t l = 0; l < sizes.n_layers; ++l) {
    made.blocks.push_back(TransformerBlock(params_, name + "." + std::to_string(l) + ".", sizes));
    add_attention(sizes.n_heads, sizes.head_dim(), looks);
  }
  if (shape_.d_ff == 0) shape_.d_ff = static_cast<int>(sizes.d_ff);
  return made;
}

void TransformerNet::add_hooks(attention::HookMap& map, const Tower& tower) {
  for (int l = 0; l < static_cast<int>(tower.blocks.size()); ++l)
    add_block_hooks(map, tower.first + l, tower.name + "." + std::to_string(l), tower.sizes);
}

Tensor TransformerNet::through(const Tower& tower, Tensor x, const attention::Batch& batch, const Pass& pass) const {
  attention::Attend attend(attend_context(batch, pass));
  for (size_t l = 0; l < tower.blocks.size(); ++l)
    x = tower.blocks[l](std::move(x), tower.first + static_cast<int>(l), attend, pass.hooks);
  return x;
}

}  // namespace fovea::train
