// Muon: the momentum of a matrix with its singular values set to about 1. Jordan et al. (2024),
// https://kellerjordan.github.io/posts/muon
//   b = momentum b + g;  u = g + momentum b (Nesterov);  w -= lr sqrt(max(1, rows / cols)) orthogonal(u)
// Vectors, and tables of the vocabulary, follow AdamW at `adam_lr` with betas and eps.
#include <algorithm>
#include <cmath>
#include <utility>

#include "fovea/kernels/sgemm.h"
#include "fovea/train/optimizer.h"

namespace fovea::train {
namespace {

using tensor::Tensor;

// c = alpha a b + beta c; with `b_transposed` b is [n, k].
void product(const Tensor& a, const Tensor& b, bool b_transposed, Tensor& c) {
  const int64_t m = a.dim(0), k = a.dim(1), n = b_transposed ? b.dim(0) : b.dim(1);
  kernels::sgemm({.m = m,
                  .n = n,
                  .k = k,
                  .a = a.data(),
                  .ld_a = k,
                  .b = b.data(),
                  .ld_b = b.dim(1),
                  .b_transposed = b_transposed,
                  .c = c.data(),
                  .ld_c = n});
}

Tensor transposed(const Tensor& x) {
  Tensor y = Tensor::empty({x.dim(1), x.dim(0)});
  for (int64_t r = 0; r < x.dim(0); ++r) {
    for (int64_t c = 0; c < x.dim(1); ++c) y.data()[c * x.dim(0) + r] = x.data()[r * x.dim(1) + c];
  }
  return y;
}

// The iteration of Newton and Schulz with the paper's coefficients: x = a x + (b x x' + c (x x')^2) x.
Tensor orthogonal(Tensor x, int steps) {
  const bool tall = x.dim(0) > x.dim(1);
  if (tall) x = transposed(x);
  const auto by = static_cast<float>(1 / (std::sqrt(sum_of_squares(x)) + 1e-7));
  for (int64_t i = 0; i < x.elements(); ++i) x.data()[i] *= by;
  const int64_t rows = x.dim(0);
  Tensor gram = Tensor::empty({rows, rows}), square = Tensor::empty({rows, rows}), y = Tensor::empty(x.shape());
  for (int step = 0; step < steps; ++step) {
    constexpr float kA = 3.4445f, kB = -4.7750f, kC = 2.0315f;
    product(x, x, true, gram);
    product(gram, gram, false, square);
    for (int64_t i = 0; i < gram.elements(); ++i) square.data()[i] = kB * gram.data()[i] + kC * square.data()[i];
    product(square, x, false, y);
    for (int64_t i = 0; i < x.elements(); ++i) y.data()[i] += kA * x.data()[i];
    std::swap(x, y);
  }
  return tall ? transposed(x) : x;
}

class Muon final : public Optimizer {
 public:
  explicit Muon(Settings& settings)
      : Optimizer(settings, 0.02),
        momentum_(static_cast<float>(settings.number("momentum", 0.95, 0, 1))),
        nesterov_(settings.flag("nesterov", true)),
        steps_(static_cast<int>(settings.integer("ns_steps", 5, 1, 20))),
        adam_lr_(settings.number("adam_lr", 3e-4, 0, 1e6)),
        moments_(settings),
        decay_(settings, 0) {}

  std::vector<std::string_view> slots(const Param& param) const override {
    return turns(param) ? std::vector<std::string_view>{"b"} : std::vector<std::string_view>{"m", "v"};
  }
  void update(const Param& param, const Tensor& gradient, std::span<Tensor> slots, const Step& step) const override {
    const double lr = this->lr() * step.factor;
    if (!turns(param)) {
      const double adam_lr = adam_lr_ * step.factor;
      return moments_.update(param.value, gradient, slots, step.number, adam_lr, step.scale,
                             1 - adam_lr * decay_.of(param), 0);
    }
    Tensor value = param.value, u = Tensor::empty(value.shape());
    float* b = slots[0].data();
    const auto scale = static_cast<float>(step.scale);
    for (int64_t i = 0; i < u.elements(); ++i) {
      const float g = gradient.data()[i] * scale;
      b[i] = momentum_ * b[i] + g;
      u.data()[i] = nesterov_ ? g + momentum_ * b[i] : b[i];
    }
    u = orthogonal(std::move(u), steps_);
    const double shape =
        std::sqrt(std::max(1.0, static_cast<double>(value.dim(0)) / static_cast<double>(value.dim(1))));
    const auto rate = static_cast<float>(lr * shape), shrink = static_cast<float>(1 - lr * decay_.of(param));
    for (int64_t i = 0; i < value.elements(); ++i) value.data()[i] = value.data()[i] * shrink - rate * u.data()[i];
  }

 private:
  static bool turns(const Param& param) { return param.matrix() && !param.table; }

  float momentum_;
  bool nesterov_;
  int steps_;
  double adam_lr_;
  Moments moments_;
  Decay decay_;
};
FOVEA_TRAIN_PART(Optimizer, "muon", Muon);

}  // namespace
}  // namespace fovea::train
