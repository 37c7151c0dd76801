// What a step makes smaller. Several losses are added with their weights; each is a mean over what it counts in all
// micro-batches of the step together, so that their sizes do not show.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fovea/tensor/tensor.h"
#include "fovea/train/model.h"
#include "fovea/train/part.h"

namespace fovea::train {

class Loss {
 public:
  struct Context {
    const TrainedModel* model = nullptr;
  };
  // What it sees of a micro-batch, under the Exec of the step.
  struct View {
    const MicroBatch& batch;
    const tensor::Tensor& logits;                 // of batch.batch.logit_rows
    const std::map<int, tensor::Tensor>& hidden;  // of the layers that it asked for: hook_of()
  };
  virtual ~Loss() = default;
  double weight() const { return weight_; }
  virtual std::vector<int> layers() const { return {}; }
  static constexpr int kFinal = -1;  // among layers: what the unembedding reads
  // What is seen of a layer: the residual stream behind it, [rows, d_model], of kFinal [logit rows, d_model].
  static std::string hook_of(int layer) {
    return layer == kFinal ? "unembed.hook_in" : "blocks." + std::to_string(layer) + ".hook_resid_post";
  }
  // What the mean is over; 0: nothing. One that looks at parameters alone is 1 of the whole step.
  virtual int64_t count(const MicroBatch& batch) const = 0;
  virtual bool of_parameters() const { return false; }
  virtual tensor::Tensor sum(const View& view) const = 0;  // [1]

 protected:
  explicit Loss(Settings& settings) : weight_(settings.number("weight", 1, 0, 1e12)) {}

 private:
  double weight_;
};

// Losses for who writes a loop of their own: means, [1].
tensor::Tensor mean_squared_error(const tensor::Tensor& x, const tensor::Tensor& target);
tensor::Tensor class_loss(const tensor::Tensor& logits, std::span<const int32_t> labels, float smoothing = 0);
tensor::Tensor binary_loss(const tensor::Tensor& logits, const tensor::Tensor& target);
// Row i of a belongs to row i of b and to no other: the mean of both cross-entropies over cosines / temperature.
// Radford et al., arXiv:2103.00020.
tensor::Tensor contrastive_loss(const tensor::Tensor& a, const tensor::Tensor& b, float temperature);

}  // namespace fovea::train
