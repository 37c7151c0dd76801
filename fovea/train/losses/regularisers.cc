// l1, l2: the sum of absolute values, of squares, of the parameters that fit one of the globs of "parameters"; with
// "mean" the mean over all their elements.
#include <fmt/format.h>

#include "fovea/tensor/ops/ops.h"
#include "fovea/train/losses/loss.h"

namespace fovea::train {
namespace {

using tensor::Tensor;

class Regulariser : public Loss {
 public:
  Regulariser(Settings& settings, const Context& context) : Loss(settings) {
    const bool mean = settings.flag("mean", false);
    const std::vector<std::string> globs = settings.texts("parameters", {"*"});
    std::vector<std::pair<std::string, std::string>> names;
    for (const Param& param : context.model->params()) names.emplace_back(param.name, param.hf_name);
    if (const Status all = check_globs(globs, names, settings.path_of("parameters")); !all)
      settings.refuse(all.error());
    for (const Param& param : context.model->params()) {
      if (globs_choose(globs, param.name, param.hf_name)) values_.push_back(param.value);
    }
    if (settings.good() && values_.empty()) settings.wrong("parameters", "leaves no parameter");
    int64_t n = 0;
    for (const Tensor& value : values_) n += value.elements();
    if (mean && n > 0) factor_ = static_cast<float>(1.0 / static_cast<double>(n));
  }
  bool of_parameters() const override { return true; }
  int64_t count(const MicroBatch&) const override { return 0; }
  Tensor sum(const View&) const override {
    Tensor all;
    for (const Tensor& value : values_) all = all.defined() ? tensor::add(all, of(value)) : of(value);
    return factor_ == 1 ? all : tensor::affine(all, factor_);
  }

 protected:
  virtual Tensor of(const Tensor& value) const = 0;

 private:
  std::vector<Tensor> values_;
  float factor_ = 1;
};

class L1 final : public Regulariser {
 public:
  L1(Settings& settings, const Context& context) : Regulariser(settings, context) {}
  Tensor of(const Tensor& value) const override { return tensor::sum(tensor::abs(value)); }
};
class L2 final : public Regulariser {
 public:
  L2(Settings& settings, const Context& context) : Regulariser(settings, context) {}
  Tensor of(const Tensor& value) const override { return tensor::sum(tensor::square(value)); }
};
FOVEA_TRAIN_PART(Loss, "l1", L1);
FOVEA_TRAIN_PART(Loss, "l2", L2);

}  // namespace
}  // namespace fovea::train
