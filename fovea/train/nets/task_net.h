// A net whose forward pass is its own: it reads pictures or tokens and says itself what it loses on them. One file each
// in this folder; its attention goes through attention::Attend, so that hooks and methods work on it.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "fovea/attention/attend.h"
#include "fovea/attention/hooks.h"
#include "fovea/attention/pipeline.h"
#include "fovea/tensor/init.h"
#include "fovea/tensor/ops/ops.h"
#include "fovea/tensor/weight.h"
#include "fovea/train/data/data.h"
#include "fovea/train/params.h"
#include "fovea/train/part.h"

namespace fovea::train {

// The parameters of a net, drawn by their names from a seed as it asks for them.
class NetParams {
 public:
  explicit NetParams(uint64_t seed) : seed_(seed) {}
  tensor::Tensor make(const std::string& name, const tensor::Shape& shape, const tensor::Init& init);
  const std::vector<Param>& all() const { return all_; }

 private:
  uint64_t seed_;
  std::vector<Param> all_;
};

// y = x w^T + b of rows. Keys of attention have no bias: one would add the same to all scores of a row.
struct Linear {
  Linear() = default;
  Linear(NetParams& params, const std::string& name, int64_t in, int64_t out, bool biased = true,
         const tensor::Init& init = tensor::Init::normal(0.02f));
  tensor::Tensor operator()(const tensor::Tensor& x) const { return tensor::matmul(x, weight, bias); }
  tensor::Weight weight, bias;
};
struct LayerNorm {
  LayerNorm() = default;
  LayerNorm(NetParams& params, const std::string& name, int64_t width);
  tensor::Tensor operator()(const tensor::Tensor& x) const { return tensor::layer_norm(x, weight, bias, 1e-5f); }
  tensor::Weight weight, bias;
};
struct Conv {
  Conv() = default;
  Conv(NetParams& params, const std::string& name, int64_t in, int64_t out, int64_t size,
       const tensor::Conv2d& how = {}, const tensor::Init& init = tensor::Init::kaiming_normal(1));
  tensor::Tensor operator()(const tensor::Tensor& x) const { return tensor::conv2d(x, weight, bias, how); }
  tensor::Tensor weight, bias;
  tensor::Conv2d how;
};
struct GroupNorm {
  GroupNorm() = default;
  GroupNorm(NetParams& params, const std::string& name, int64_t channels);  // groups of 4 or more channels, 8 at most
  tensor::Tensor operator()(const tensor::Tensor& x) const {
    return tensor::group_norm(x, groups, weight, bias, 1e-5f);
  }
  tensor::Tensor weight, bias;
  int64_t groups = 1;
};

class TaskNet {
 public:
  struct Context {
    uint64_t seed = 0;
  };
  struct Pass {
    attention::Hooks& hooks;
    attention::Pipeline* pipeline = nullptr;  // null: dense
    uint64_t key = 0;                         // of all that is drawn on the way
    const std::atomic<bool>* cancel = nullptr;
    attention::KvCache* cache = nullptr;  // with one, and no tape, hooks see rows of attention; for one pass
    int64_t* n_right = nullptr;           // class_loss() adds to it; -1: no net has yet
  };
  // What its samples must be; channels 0: it looks at no picture, height 0: they may have any.
  struct Wants {
    int64_t channels = 0, height = 0, width = 0;
    int64_t n_labels = 0;    // 0: no label is read
    int64_t vocab_size = 0;  // 0: no token is read
    int64_t batch = 1;       // samples of a pass at least, without which nothing is lost
  };

  virtual ~TaskNet() = default;
  virtual Wants wants() const = 0;
  // What else is wrong with one, as "wants nothing"; empty: nothing.
  virtual std::string misfit(const Sample& /*sample*/) const { return ""; }
  // What the mean of the loss is over: the targets, unless a net says otherwise.
  virtual int64_t count(const std::vector<Sample>& samples) const;
  virtual tensor::Tensor loss_sum(const std::vector<Sample>& samples, const Pass& pass) const = 0;  // [1]
  virtual attention::HookMap hooks() const;                      // by default what class_loss() fires
  const attention::ModelShape& shape() const { return shape_; }  // its attention; n_layers 0: it has none
  const std::vector<Param>& params() const { return params_.all(); }

 protected:
  explicit TaskNet(const Context& context) : params_(context.seed) {}
  // A layer more, that looks both ways, or back alone, with keys turned by their positions (head_dim is even).
  enum class Looks { kBothWays, kBack };
  void add_attention(int64_t n_heads, int64_t head_dim, Looks looks = Looks::kBothWays);
  // Attention of `n` rows of each sample, or of as many as each has; the batch must live as long.
  static attention::Batch rows(int64_t n_samples, int64_t n);
  static attention::Batch rows(const std::vector<int64_t>& of_each);
  attention::Attend::Context attend_context(const attention::Batch& batch, const Pass& pass) const;

  NetParams params_;
  attention::ModelShape shape_;

 private:
  std::vector<tensor::RopeTable> ropes_;
};

// [batch, channels, height, width] of all samples.
tensor::Tensor pixels_of(const std::vector<Sample>& samples);
std::vector<int32_t> labels_of(const std::vector<Sample>& samples);
// The sum of the cross entropies of rows of outputs; a pass that asks is told in how many rows the class that is wanted
// has the largest. Fires unembed.hook_out with the outputs, where the net's hooks have it; shape().vocab_size is how
// many.
tensor::Tensor class_loss(const tensor::Tensor& outputs, const std::vector<int32_t>& wanted, const TaskNet::Pass& pass);

}  // namespace fovea::train
