#include "fovea/tensor/ops/norm/batch_norm.h"

#include <vector>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/ops/norm/moments.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

struct BatchSizes {
  BatchSizes(const Tensor& x, std::initializer_list<const Tensor*> of_channels) {
    FOVEA_CHECK(x.shape().rank() >= 2 && x.elements() > 0, "batch_norm: x {}, wanted [batch, channels, ...]",
                x.shape().to_string());
    batch = x.dim(0), channels = x.dim(1), places = x.elements() / (batch * channels);
    for (const Tensor* v : of_channels)
      FOVEA_CHECK(!v->defined() || v->shape() == Shape({channels}), "batch_norm: {} for {} channels",
                  v->shape().to_string(), channels);
  }
  int64_t batch, channels, places;
  int64_t n() const { return batch * places; }
  // fn(channel) over the threads
  template <typename Fn>
  void each_channel(const Fn& fn) const {
    for_rows(channels, n(), [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) fn(c);
    });
  }
  // The sum over a channel of f(i), i an element of x.
  template <typename F>
  double sum(int64_t c, const F& f) const {
    double all = 0;
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t first = (b * channels + c) * places;
      all += sum_of(places, [&f, first](int64_t i) { return f(first + i); });
    }
    return all;
  }
  template <typename Fn>
  void each_element(int64_t c, const Fn& fn) const {
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t first = (b * channels + c) * places;
      for (int64_t i = first; i < first + places; ++i) fn(i);
    }
  }
};

float at(const Tensor& v, int64_t i, float otherwise) { return v.defined() ? v.data()[i] : otherwise; }

// `own`: the moments are x's, and go with it.
Tensor normalise(const BatchSizes& s, const Tensor& x, const Tensor& weight, const Tensor& bias,
                 std::vector<float> means, std::vector<float> scales, bool own) {
  Tensor y = Tensor::empty(x.shape());
  s.each_channel([&](int64_t c) {
    const float mean = means[static_cast<size_t>(c)], factor = scales[static_cast<size_t>(c)] * at(weight, c, 1);
    const float shift = at(bias, c, 0), *in = x.data();
    float* out = y.data();
    s.each_element(c, [&](int64_t i) { out[i] = (in[i] - mean) * factor + shift; });
  });
  // With xhat = (x - mean) scale: dx = weight scale (dy - mean(dy) - xhat mean(dy xhat)), or weight scale dy
  if (Tape* tape = current_tape()) {
    tape->record(
        y, {x, weight, bias},
        [s, x, weight, means = std::move(means), scales = std::move(scales), own, bias = ValueId(bias),
         y = ValueId(y)](Tape& t) {
          const float *dy = t.grad(y).data(), *in = x.data();
          float* dx = t.needs_grad(x) ? t.grad(x).data() : nullptr;
          float* dw = t.needs_grad(weight) ? t.grad(weight).data() : nullptr;
          float* db = t.needs_grad(bias) ? t.grad(bias).data() : nullptr;
          s.each_channel([&](int64_t c) {
            const float mean = means[static_cast<size_t>(c)], scale = scales[static_cast<size_t>(c)];
            const double sum = s.sum(c, [dy](int64_t i) { return double{dy[i]}; });
            const double dot =
                s.sum(c, [dy, in, mean, scale](int64_t i) { return double{dy[i]} * ((in[i] - mean) * scale); });
            if (dw) dw[c] += static_cast<float>(dot);
            if (db) db[c] += static_cast<float>(sum);
            if (!dx) return;
            const float factor = at(weight, c, 1) * scale;
            const auto n = static_cast<double>(s.n());
            const float shift = own ? static_cast<float>(sum / n) : 0.0f;
            const float pull = own ? static_cast<float>(dot / n) : 0.0f;
            s.each_element(c, [&](int64_t i) { dx[i] += factor * (dy[i] - shift - (in[i] - mean) * scale * pull); });
          });
        });
  }
  return y;
}

}  // namespace

Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps, ChannelMoments* seen) {
  const BatchSizes s(x, {&weight, &bias});
  const auto channels = static_cast<size_t>(s.channels);
  std::vector<float> means(channels), scales(channels), variances(channels);
  const float* in = x.data();
  s.each_channel([&](int64_t c) {
    const auto n = static_cast<double>(s.n());
    const double mean = s.sum(c, [in](int64_t i) { return double{in[i]}; }) / n;
    const double squares = s.sum(c, [in, mean](int64_t i) { return (in[i] - mean) * (in[i] - mean); });
    const auto k = static_cast<size_t>(c);
    means[k] = static_cast<float>(mean);
    scales[k] = static_cast<float>(1 / std::sqrt(squares / n + double{eps}));
    variances[k] = static_cast<float>(s.n() > 1 ? squares / (n - 1) : 0);
  });
  if (seen) *seen = {Tensor::from({s.channels}, means), Tensor::from({s.channels}, variances)};
  return normalise(s, x, weight, bias, std::move(means), std::move(scales), true);
}

Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps, const ChannelMoments& moments) {
  FOVEA_CHECK(moments.mean.defined() && moments.variance.defined(), "batch_norm: no {} is given",
              moments.mean.defined() ? "variance" : "mean");
  const BatchSizes s(x, {&weight, &bias, &moments.mean, &moments.variance});
  std::vector<float> means(moments.mean.values().begin(), moments.mean.values().end()), scales;
  for (const float v : moments.variance.values())
    scales.push_back(static_cast<float>(1 / std::sqrt(double{v} + double{eps})));
  return normalise(s, x, weight, bias, std::move(means), std::move(scales), false);
}

}  // namespace fovea::tensor
