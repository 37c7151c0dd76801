// What nets that find the noise in pictures share: how noise comes into them, and the step of the schedule as numbers.
#pragma once

#include <cstdint>
#include <vector>

#include "fovea/tensor/tensor.h"
#include "fovea/train/data/data.h"

namespace fovea::train {

struct NoisyPictures {
  tensor::Tensor pixels, noise;  // [batch, channels, height, width]; the noise is what is to be found
  std::vector<int32_t> times;    // of the schedule, below kSteps
};

// Ho et al., arXiv:2006.11239: betas rise in a line from 1e-4 to 0.02.
class NoiseSchedule {
 public:
  static constexpr int kSteps = 1000;
  NoiseSchedule();
  // Noise and times that a sample does not bring are drawn by `key`.
  NoisyPictures operator()(const std::vector<Sample>& samples, uint64_t key) const;

 private:
  std::vector<double> kept_;  // of the signal's square at each step
};

// cos and sin of t / 10000^(i / half), half = width / 2: [batch, width]
tensor::Tensor sines_of(const std::vector<int32_t>& times, int64_t width);

}  // namespace fovea::train
