#include "fovea/train/nets/noise.h"

#include <cmath>

#include "fovea/base/random.h"
#include "fovea/train/nets/task_net.h"

namespace fovea::train {

using tensor::Tensor;

NoiseSchedule::NoiseSchedule() {
  double kept = 1;
  for (int t = 0; t < kSteps; ++t) kept_.push_back(kept *= 1 - (1e-4 + (0.02 - 1e-4) * t / (kSteps - 1)));
}

NoisyPictures NoiseSchedule::operator()(const std::vector<Sample>& samples, uint64_t key) const {
  const Tensor images = pixels_of(samples);
  NoisyPictures out{.pixels = Tensor::empty(images.shape()), .noise = Tensor::empty(images.shape()), .times = {}};
  const int64_t n = images.elements() / images.dim(0);
  for (size_t i = 0; i < samples.size(); ++i) {
    const Picture& picture = *samples[i].picture;
    Rng rng(Rng(key).next() ^ i * 0x9e3779b97f4a7c15u);
    out.times.push_back(picture.time >= 0 ? picture.time : static_cast<int32_t>(rng.below(kSteps)));
    const double kept = kept_[static_cast<size_t>(out.times.back())];
    const auto signal = static_cast<float>(std::sqrt(kept)), spoiled = static_cast<float>(std::sqrt(1 - kept));
    for (int64_t k = 0, at = static_cast<int64_t>(i) * n; k < n; ++k, ++at) {
      out.noise.data()[at] =
          picture.noise.empty() ? static_cast<float>(rng.normal()) : picture.noise[static_cast<size_t>(k)];
      out.pixels.data()[at] = signal * images.data()[at] + spoiled * out.noise.data()[at];
    }
  }
  return out;
}

Tensor sines_of(const std::vector<int32_t>& times, int64_t width) {
  const int64_t half = width / 2;
  Tensor x = Tensor::empty({static_cast<int64_t>(times.size()), width});
  for (size_t b = 0; b < times.size(); ++b) {
    float* row = x.data() + static_cast<int64_t>(b) * width;
    for (int64_t i = 0; i < half; ++i) {
      const double angle = times[b] * std::pow(1e4, -static_cast<double>(i) / static_cast<double>(half));
      row[i] = static_cast<float>(std::cos(angle));
      row[half + i] = static_cast<float>(std::sin(angle));
    }
  }
  return x;
}

}  // namespace fovea::train
