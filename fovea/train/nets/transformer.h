// What nets with layers of a transformer share: pre-norm blocks, and patches of pictures as rows before them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fovea/train/nets/task_net.h"

namespace fovea::train {

struct TowerSizes {
  int64_t d_model = 0, n_layers = 0, n_heads = 1, d_ff = 0;
  int64_t head_dim() const { return d_model / n_heads; }
};
// `d_model`, `n_layers`, `n_heads` and `d_ff` (4 d_model): each must be there where there is no `otherwise`. What they
// are is good if the settings still are.
TowerSizes read_tower(Settings& s, const std::optional<TowerSizes>& otherwise = {});

struct PictureSizes {
  int64_t size = 1, patch = 1, channels = 0;
  int64_t side() const { return size / patch; }  // in patches
};
PictureSizes read_picture(Settings& s);

// Patches as rows with learned positions, behind a class token where one is wanted: [batch * n(), d_model].
struct Patches {
  Patches() = default;
  Patches(NetParams& params, const std::string& at, const PictureSizes& sizes, int64_t d_model, bool classed);
  int64_t n() const { return positions.dim(0); }
  tensor::Tensor operator()(const tensor::Tensor& pictures) const;
  Conv embed;
  tensor::Tensor cls, positions;
};

// x + attention(norm1(x)), then x + mlp(norm2(x)).
struct TransformerBlock {
  TransformerBlock(NetParams& params, const std::string& at, const TowerSizes& sizes);
  // x [n, d_model]; its attention is that of `layer`.
  tensor::Tensor operator()(tensor::Tensor x, int layer, attention::Attend& attend, attention::Hooks& hook) const;
  tensor::Tensor attend_to(const tensor::Tensor& x, int layer, attention::Attend& attend,
                           attention::Hooks& hook) const;  // its first half
  tensor::Tensor mlp(const tensor::Tensor& x, int layer, attention::Hooks& hook) const;
  int64_t n_heads;
  LayerNorm norm1, norm2;
  Linear q, k, v, proj, fc1, fc2;
};
// Those sites of a block that it fires.
void add_block_hooks(attention::HookMap& map, int layer, const std::string& name, const TowerSizes& sizes);

class TransformerNet : public TaskNet {
 protected:
  explicit TransformerNet(const Context& context) : TaskNet(context) {}
  struct Tower {
    std::string name;  // of its blocks, before their number
    int first = 0;     // layer of attention
    TowerSizes sizes;
    std::vector<TransformerBlock> blocks;
  };
  Tower tower(const std::string& name, const TowerSizes& sizes, Looks looks);
  static void add_hooks(attention::HookMap& map, const Tower& tower);
  tensor::Tensor through(const Tower& tower, tensor::Tensor x, const attention::Batch& batch, const Pass& pass) const;
};

}  // namespace fovea::train
