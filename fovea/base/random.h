// Seeded random numbers: xoshiro256** (Blackman & Vigna), the same on every machine.
#pragma once

#include <array>
#include <cstdint>

namespace fovea {

class Rng {
 public:
  explicit Rng(uint64_t seed);
  uint64_t next();             // 64 uniform bits
  uint64_t below(uint64_t n);  // uniform in [0, n), n > 0, unbiased
  double uniform();            // [0, 1)
  double normal();             // mean 0, deviation 1

 private:
  std::array<uint64_t, 4> s_;
};

}  // namespace fovea
