// How parameters follow their gradients. An optimizer keeps nothing itself: what it remembers of a parameter are
// tensors ("slots") that the trainer keeps, saves and hands back, so that a checkpoint is complete by construction.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/threads.h"
#include "fovea/train/params.h"
#include "fovea/train/part.h"

namespace fovea::train {

class Optimizer {
 public:
  struct Context {};
  struct Step {
    int64_t number = 0;  // from 0
    double factor = 1;   // of the schedule: every rate is multiplied with it
    double scale = 1;    // of clipping: the gradient counts this much
  };

  virtual ~Optimizer() = default;
  double lr() const { return lr_; }
  // What it keeps of a parameter, each of its shape and zeros at first: "m", "v".
  virtual std::vector<std::string_view> slots(const Param& param) const = 0;
  // The values of the parameter become those after the step.
  virtual void update(const Param& param, const tensor::Tensor& gradient, std::span<tensor::Tensor> slots,
                      const Step& step) const = 0;

 protected:
  explicit Optimizer(Settings& settings, double lr) : lr_(settings.number("lr", lr, 0, 1e6)) {}
  // Elements are independent of one another: fn(begin, end) on the threads of the pool.
  static void for_elements(int64_t n, FunctionRef<void(int64_t begin, int64_t end)> fn);

 private:
  double lr_;
};

// weight_decay, and which parameters it is for: "decay" is "all" or "matrices".
struct Decay {
  Decay(Settings& settings, double otherwise);
  double of(const Param& param) const { return matrices_only && !param.matrix() ? 0 : rate; }
  double rate;
  bool matrices_only;
};

// lr, betas, eps of Adam and its kin; Kingma & Ba, arXiv:1412.6980:
//   m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  w -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
struct Moments {
  explicit Moments(Settings& settings);
  double beta1, beta2, eps;
  // `shrink`: w is multiplied with it first (decoupled decay); `l2`: l2 w is added to the gradient (Adam's).
  void update(tensor::Tensor value, const tensor::Tensor& gradient, std::span<tensor::Tensor> slots, int64_t step,
              double lr, double scale, double shrink, double l2) const;
};

}  // namespace fovea::train
