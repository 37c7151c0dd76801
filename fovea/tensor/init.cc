#include "fovea/tensor/init.h"

#include <algorithm>
#include <cmath>

#include "fovea/base/random.h"
#include "fovea/tensor/ops/for_rows.h"

namespace fovea::tensor {
namespace {

using Kind = Init::Kind;

bool is_uniform(Kind kind) {
  return kind == Kind::kUniform || kind == Kind::kXavierUniform || kind == Kind::kKaimingUniform;
}

// The deviation of a normal draw, or the bound of a uniform one.
double spread_of(const Init& init, double fan_in, double fan_out) {
  const double uniform = is_uniform(init.kind) ? std::sqrt(3.0) : 1.0;
  switch (init.kind) {
    case Kind::kXavierNormal:
    case Kind::kXavierUniform: return uniform * init.value * std::sqrt(2.0 / (fan_in + fan_out));
    case Kind::kKaimingNormal:
    case Kind::kKaimingUniform: return uniform * init.value / std::sqrt(fan_in);
    default: return init.value;
  }
}

uint64_t hash_of(std::string_view name) {  // FNV-1a
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

}  // namespace

Tensor draw(const Init& init, const Shape& shape, uint64_t seed, std::string_view name) {
  Tensor t = Tensor::empty(shape);
  if (init.kind == Kind::kConstant) {
    std::fill_n(t.data(), t.elements(), init.value);
    return t;
  }
  const int64_t cols = shape[-1], rows = cols > 0 ? t.elements() / cols : 0;
  const double spread = spread_of(init, static_cast<double>(cols), static_cast<double>(rows > 1 ? rows : cols));
  const uint64_t key = Rng(seed ^ hash_of(name)).next();
  for_rows(rows, cols, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      Rng rng(key + static_cast<uint64_t>(r));
      for (int64_t i = r * cols; i < (r + 1) * cols; ++i)
        t.data()[i] = static_cast<float>(spread * (is_uniform(init.kind) ? 2 * rng.uniform() - 1 : rng.normal()));
    }
  });
  return t;
}

}  // namespace fovea::tensor
