// A weight of each query head that training fits: what methods of one number a head share. They begin at `start`.
#pragma once

#include <string>
#include <vector>

#include "fovea/attention/method.h"
#include "fovea/tensor/ops/shape/view.h"

namespace fovea::attention {

class HeadWeights : public Method {
 public:
  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("start", start_, {.min = -1000, .max = 1000, .help = "weights where the model's file has none"});
  }
  Status bind(const ModelShape& model) override {
    for (int layer = 0; layer < model.n_layers; ++layer) n_heads_.push_back(model.site(layer).n_heads);
    weights_.resize(n_heads_.size());
    return {};
  }
  std::vector<tensor::Parameter> parameters() override {
    std::vector<tensor::Parameter> table;
    for (size_t layer = 0; layer < weights_.size(); ++layer)
      table.push_back({"layer." + std::to_string(layer),
                       "",
                       {n_heads_[layer]},
                       &weights_[layer],
                       tensor::Init::constant(static_cast<float>(start_))});
    return table;
  }

 protected:
  tensor::Tensor weights(int layer) const {  // [n_heads, 1]
    const tensor::Tensor values = tensor::weight_values(weights_[static_cast<size_t>(layer)]);
    return tensor::reshape(values, {values.elements(), 1});
  }

 private:
  double start_ = 1;
  std::vector<int64_t> n_heads_;
  std::vector<tensor::Weight> weights_;  // of each layer, [n_heads]
};

}  // namespace fovea::attention
