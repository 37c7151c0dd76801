#include "fovea/train/optimizer.h"

#include <algorithm>
#include <cmath>

namespace fovea::train {

void Optimizer::for_elements(int64_t n, FunctionRef<void(int64_t begin, int64_t end)> fn) {
  constexpr int64_t kPart = 1 << 15;
  pool().for_each((n + kPart - 1) / kPart,
                  [&](int64_t part, int) { fn(part * kPart, std::min(n, (part + 1) * kPart)); });
}

Decay::Decay(Settings& settings, double otherwise)
    : rate(settings.number("weight_decay", otherwise, 0, 1e3)),
      matrices_only(settings.one_of("decay", "all", {"all", "matrices"}) == "matrices") {}

Moments::Moments(Settings& settings) : beta1(0), beta2(0), eps(settings.number("eps", 1e-8, 0, 1)) {
  const auto betas = settings.numbers("betas", {0.9, 0.999}, 0, 1);
  beta1 = betas[0], beta2 = betas[1];
  if (beta1 >= 1 || beta2 >= 1) settings.wrong("betas", "hold a 1; both must be below it");
}

void Moments::update(tensor::Tensor value, const tensor::Tensor& gradient, std::span<tensor::Tensor> slots,
                     int64_t step, double lr, double scale, double shrink, double l2) const {
  const auto t = static_cast<double>(step + 1);
  const auto rate = static_cast<float>(lr / (1 - std::pow(beta1, t)));
  const auto by_root = static_cast<float>(1 / std::sqrt(1 - std::pow(beta2, t)));
  const auto b1 = static_cast<float>(1 - beta1), b2 = static_cast<float>(beta2),
             b2_rest = static_cast<float>(1 - beta2);
  const auto small = static_cast<float>(eps), factor = static_cast<float>(scale), less = static_cast<float>(shrink),
             add = static_cast<float>(l2);
  float *w = value.data(), *m = slots[0].data(), *v = slots[1].data();
  const float* from = gradient.data();
  constexpr int64_t kPart = 1 << 14;
  const int64_t n = value.elements();
  pool().for_each((n + kPart - 1) / kPart, [&](int64_t part, int) {
    for (int64_t i = part * kPart; i < std::min(n, (part + 1) * kPart); ++i) {
      const float g = from[i] * factor + add * w[i];
      m[i] += b1 * (g - m[i]);
      v[i] = b2 * v[i] + b2_rest * g * g;
      w[i] = w[i] * less - rate * m[i] / (std::sqrt(v[i]) * by_root + small);
    }
  });
}

}  // namespace fovea::train
