#include "fovea/train/nets/task_net.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/loss/cross_entropy.h"

namespace fovea::train {

using tensor::Init;
using tensor::Shape;
using tensor::Tensor;
using tensor::Weight;

Tensor NetParams::make(const std::string& name, const Shape& shape, const Init& init) {
  // What follows the first dimension is what one output reads.
  const Shape drawn = shape.rank() > 2 ? Shape{shape[0], shape.elements() / shape[0]} : shape;
  Tensor value = tensor::draw(init, drawn, seed_, name).with_shape(shape);
  all_.push_back({.name = name, .hf_name = name, .value = value});
  return value;
}

Linear::Linear(NetParams& params, const std::string& name, int64_t in, int64_t out, bool biased, const Init& init)
    : weight(Weight::from(name, params.make(name + ".weight", {out, in}, init))) {
  if (biased) bias = Weight::from(name, params.make(name + ".bias", {out}, Init::zeros()));
}

LayerNorm::LayerNorm(NetParams& params, const std::string& name, int64_t width)
    : weight(Weight::from(name, params.make(name + ".weight", {width}, Init::ones()))),
      bias(Weight::from(name, params.make(name + ".bias", {width}, Init::zeros()))) {}

Conv::Conv(NetParams& params, const std::string& name, int64_t in, int64_t out, int64_t size,
           const tensor::Conv2d& conv, const Init& init)
    : weight(params.make(name + ".weight", {out, in / conv.groups, size, size}, init)),
      bias(params.make(name + ".bias", {out}, Init::zeros())),
      how(conv) {}

GroupNorm::GroupNorm(NetParams& params, const std::string& name, int64_t channels)
    : weight(params.make(name + ".weight", {channels}, Init::ones())),
      bias(params.make(name + ".bias", {channels}, Init::zeros())),
      groups(std::clamp<int64_t>(channels / 4, 1, 8)) {
  while (channels % groups != 0) --groups;
}

int64_t TaskNet::count(const std::vector<Sample>& samples) const {
  int64_t n = 0;
  for (const Sample& sample : samples) n += sample.n_targets();
  return n;
}

attention::HookMap TaskNet::hooks() const {
  attention::HookMap map(shape_);
  if (shape_.vocab_size > 0) map.add(attention::Site::kLogits);
  return map;
}

void TaskNet::add_attention(int64_t n_heads, int64_t head_dim, Looks looks) {
  const auto heads = static_cast<int>(n_heads), dim = static_cast<int>(head_dim);
  if (shape_.n_layers == 0) {
    shape_.n_heads = shape_.n_kv_heads = heads, shape_.head_dim = dim, shape_.d_model = heads * dim;
    shape_.n_ctx = 1 << 20;
  }
  attention::AttentionShape layer{.n_heads = heads, .n_k_heads = heads, .n_v_heads = heads, .k_dim = dim, .v_dim = dim};
  layer.rope = attention::AttentionShape::kNoRope;
  layer.scale = 1 / std::sqrt(static_cast<float>(dim));
  layer.causal = looks == Looks::kBack;
  if (layer.causal) {
    tensor::RopeTable table;
    for (int i = 0; i < dim / 2; ++i) table.inv_freq.push_back(static_cast<float>(std::pow(1e4, -2.0 * i / dim)));
    const auto same = [&](const tensor::RopeTable& known) { return known.inv_freq == table.inv_freq; };
    layer.rope = static_cast<int>(std::find_if(ropes_.begin(), ropes_.end(), same) - ropes_.begin());
    if (layer.rope == static_cast<int>(ropes_.size())) ropes_.push_back(std::move(table));
  }
  shape_.attention.push_back(layer);
  ++shape_.n_layers;
}

attention::Batch TaskNet::rows(int64_t n_samples, int64_t n) {
  return rows(std::vector<int64_t>(static_cast<size_t>(n_samples), n));
}

attention::Batch TaskNet::rows(const std::vector<int64_t>& of_each) {
  attention::Batch batch;
  for (size_t i = 0; i < of_each.size(); ++i)
    batch.add(std::vector<int32_t>(static_cast<size_t>(of_each[i])), 0, static_cast<attention::SequenceId>(i));
  return batch;
}

attention::Attend::Context TaskNet::attend_context(const attention::Batch& batch, const Pass& pass) const {
  if (pass.pipeline) {  // what methods kept of an earlier pass
    for (const attention::SequenceId sequence : batch.sequences) pass.pipeline->remove(sequence);
  }
  return {.model = shape_,
          .ropes = ropes_,
          .batch = batch,
          .cache = pass.cache,
          .pipeline = pass.pipeline,
          .hooks = &pass.hooks,
          .cancel = pass.cancel};
}

Tensor pixels_of(const std::vector<Sample>& samples) {
  FOVEA_CHECK(!samples.empty() && samples[0].picture, "a net that looks at pictures got samples without");
  const Picture& first = *samples[0].picture;
  const auto n = static_cast<int64_t>(first.pixels.size());
  Tensor x = Tensor::empty({static_cast<int64_t>(samples.size()), first.channels, first.height, first.width});
  for (size_t i = 0; i < samples.size(); ++i) {
    FOVEA_CHECK(samples[i].picture && samples[i].picture->pixels.size() == first.pixels.size(),
                "pictures of one batch differ in size");
    std::copy_n(samples[i].picture->pixels.data(), n, x.data() + static_cast<int64_t>(i) * n);
  }
  return x;
}

std::vector<int32_t> labels_of(const std::vector<Sample>& samples) {
  std::vector<int32_t> labels;
  for (const Sample& sample : samples) labels.push_back(sample.picture ? sample.picture->label : -1);
  return labels;
}

Tensor class_loss(const Tensor& made, const std::vector<int32_t>& wanted, const TaskNet::Pass& pass) {
  const bool fires = pass.hooks.model().index(attention::Site::kLogits, attention::kNoLayer) >= 0;
  const Tensor outputs = fires ? pass.hooks(attention::Site::kLogits, attention::kNoLayer, made) : made;
  if (pass.n_right) {
    const int64_t n = outputs.dim(1);
    *pass.n_right = std::max<int64_t>(*pass.n_right, 0);
    for (size_t i = 0; i < wanted.size(); ++i) {
      const float* row = outputs.data() + static_cast<int64_t>(i) * n;
      *pass.n_right += std::max_element(row, row + n) - row == wanted[i];
    }
  }
  return tensor::cross_entropy(outputs, wanted).sum;
}

}  // namespace fovea::train
