#include "fovea/tensor/ops/norm/group_norm.h"

#include <cmath>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/kernels/group_norm.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

struct GroupSizes {
  int64_t batch, channels, groups, places;
  int64_t in_group() const { return channels / groups; }
  int64_t n() const { return in_group() * places; }
};

// Of one group of one sample.
struct Moments {
  float mean, scale;  // scale: 1 / sqrt(variance + eps)
};

float at(const float* v, int64_t i, float otherwise) { return v ? v[i] : otherwise; }

}  // namespace

Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, float eps) {
  const bool fits = x.shape().rank() >= 2 && groups > 0 && x.dim(1) % groups == 0 && x.elements() > 0;
  FOVEA_CHECK(fits, "group_norm: x {} in {} groups", x.shape().to_string(), groups);
  const GroupSizes s{x.dim(0), x.dim(1), groups, x.elements() / (x.dim(0) * x.dim(1))};
  for (const Tensor* v : {&weight, &bias})
    FOVEA_CHECK(!v->defined() || v->shape() == Shape({s.channels}), "group_norm: weights {} for {} channels",
                v->shape().to_string(), s.channels);
  std::vector<Moments> moments(static_cast<size_t>(s.batch * groups));
  Tensor y = Tensor::empty(x.shape());
  const float *w = weight.defined() ? weight.data() : nullptr, *b = bias.defined() ? bias.data() : nullptr;
  for_rows(s.batch * groups, s.n(), [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      const float* in = x.data() + g * s.n();
      float* out = y.data() + g * s.n();
      kernels::NormSums sums;
      kernels::moment_sums(in, s.n(), sums);
      const auto n = static_cast<double>(s.n());
      const Moments m{static_cast<float>(sums.first / n),
                      static_cast<float>(1 / std::sqrt(sums.second / n + double{eps}))};
      moments[static_cast<size_t>(g)] = m;
      for (int64_t k = 0; k < s.in_group(); ++k) {
        const int64_t c = g % groups * s.in_group() + k, first = k * s.places;
        kernels::move_scale(in + first, m.mean, m.scale * at(w, c, 1), at(b, c, 0), s.places, out + first);
      }
    }
  });
  // With g = dy weight and xhat = (x - mean) scale: dx = scale (g - mean(g) - xhat mean(g xhat))
  if (Tape* tape = current_tape()) {
    tape->record(y, {x, weight, bias}, [s, x, weight, moments, bias = ValueId(bias), y = ValueId(y)](Tape& t) {
      const float *dy = t.grad(y).data(), *v = weight.defined() ? weight.data() : nullptr;
      const auto rows = static_cast<size_t>(s.batch * s.channels);
      std::vector<double> sums(rows), dots(rows);  // of dy, and of dy xhat, over places
      for_rows(s.batch * s.channels, s.places, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const Moments m = moments[static_cast<size_t>(r / s.in_group())];
          kernels::NormSums both;
          kernels::slope_sums(x.data() + r * s.places, dy + r * s.places, m.mean, s.places, both);
          sums[static_cast<size_t>(r)] = both.first, dots[static_cast<size_t>(r)] = both.second * double{m.scale};
        }
      });
      if (t.needs_grad(x)) {
        bool first = false;
        float* dx = t.grad(x, first).data();
        for_rows(s.batch * s.groups, s.n(), [&](int64_t begin, int64_t end) {
          for (int64_t g = begin; g < end; ++g) {
            const Moments m = moments[static_cast<size_t>(g)];
            double sum = 0, dot = 0;
            for (int64_t k = 0; k < s.in_group(); ++k) {
              const auto r = static_cast<size_t>(g * s.in_group() + k);
              const double factor = at(v, g % s.groups * s.in_group() + k, 1);
              sum += factor * sums[r], dot += factor * dots[r];
            }
            const auto mean = static_cast<float>(sum / static_cast<double>(s.n()));
            const auto pull = static_cast<float>(dot / static_cast<double>(s.n()));
            for (int64_t k = 0; k < s.in_group(); ++k) {
              const float factor = at(v, g % s.groups * s.in_group() + k, 1);
              const int64_t from = (g * s.in_group() + k) * s.places;
              kernels::norm_backward(x.data() + from, dy + from,
                                     {.mean = m.mean,
                                      .factor = m.scale * factor,
                                      .pull = m.scale * m.scale * pull,
                                      .shift = m.scale * mean},
                                     s.places, !first, dx + from);
            }
          }
        });
      }
      const auto add = [&](const ValueId& into, const std::vector<double>& from) {
        if (!t.needs_grad(into)) return;
        float* d = t.grad(into).data();
        for (int64_t c = 0; c < s.channels; ++c) {
          double sum = 0;
          for (int64_t i = 0; i < s.batch; ++i) sum += from[static_cast<size_t>(i * s.channels + c)];
          d[c] += static_cast<float>(sum);
        }
      };
      add(weight, dots);
      add(bias, sums);
    });
  }
  return y;
}

}  // namespace fovea::tensor
