#include "fovea/base/random.h"

#include <cmath>
#include <numbers>

#include "fovea/base/check.h"

namespace fovea {
namespace {

uint64_t rotated(uint64_t x, int k) { return x << k | x >> (64 - k); }

}  // namespace

Rng::Rng(uint64_t seed) : s_() {
  for (uint64_t& word : s_) {  // splitmix64, as xoshiro's authors advise
    uint64_t z = (seed += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    word = z ^ z >> 31;
  }
}

uint64_t Rng::next() {
  const uint64_t result = rotated(s_[1] * 5, 7) * 9;
  const uint64_t t = s_[1] << 17;
  s_[2] ^= s_[0];
  s_[3] ^= s_[1];
  s_[1] ^= s_[2];
  s_[0] ^= s_[3];
  s_[2] ^= t;
  s_[3] = rotated(s_[3], 45);
  return result;
}

uint64_t Rng::below(uint64_t n) {
  FOVEA_CHECK(n > 0, "random: below(0) has no answer");
  const uint64_t rest = (0 - n) % n;  // 2^64 mod n: values under it would be drawn too often
  uint64_t x;
  do {
    x = next();
  } while (x < rest);
  return x % n;
}

double Rng::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

double Rng::normal() {  // Box-Muller
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

}  // namespace fovea
