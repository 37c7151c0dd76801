#include "fovea/tensor/ops/attention/rope.h"

#include <algorithm>
#include <cmath>

#include "fovea/base/check.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// Which elements of a head make a pair: first(i) = i * step, second(i) = first(i) + apart.
struct Pairs {
  int64_t step, apart;
};

Pairs pairs_of(const RopeAngles& angles) {
  if (angles.pairing == RopePairing::kHalves) return {1, angles.cos.dim(1)};
  return {2, 1};
}

}  // namespace

RopeAngles make_rope_angles(std::span<const int32_t> positions, const RopeTable& table) {
  const int64_t n = static_cast<int64_t>(positions.size()), n_pairs = static_cast<int64_t>(table.inv_freq.size());
  RopeAngles angles{.cos = Tensor::empty({n, n_pairs}), .sin = Tensor::empty({n, n_pairs}), .pairing = table.pairing};
  float *cos = angles.cos.data(), *sin = angles.sin.data();
  constexpr int64_t kCost = 16;  // a cosine and a sine cost about so many plain elements
  for_rows(n, n_pairs * kCost, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t i = 0; i < n_pairs; ++i) {
        const double theta =
            static_cast<double>(table.inv_freq[static_cast<size_t>(i)]) * positions[static_cast<size_t>(t)];
        cos[t * n_pairs + i] = static_cast<float>(std::cos(theta) * table.attn_factor);
        sin[t * n_pairs + i] = static_cast<float>(std::sin(theta) * table.attn_factor);
      }
    }
  });
  return angles;
}

Tensor rope(const Tensor& x, const RopeAngles& angles) {
  FOVEA_CHECK(x.shape().rank() == 3 && angles.cos.defined() && x.dim(0) == angles.cos.dim(0),
              "rope: x {} with angles {}, wanted [n_tokens, n_heads, head_dim] and as many tokens",
              x.shape().to_string(), angles.cos.shape().to_string());
  const int64_t n = x.dim(0), n_heads = x.dim(1), head_dim = x.dim(2), n_pairs = angles.cos.dim(1);
  FOVEA_CHECK(2 * n_pairs <= head_dim, "rope: {} pairs do not fit a head of {}", n_pairs, head_dim);
  const bool adjacent = angles.pairing == RopePairing::kAdjacent;
  Tensor y = Tensor::empty(x.shape());
  const float *px = x.data(), *cos = angles.cos.data(), *sin = angles.sin.data();
  float* py = y.data();
  for_rows(n, n_heads * head_dim, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t head = t * n_heads; head < (t + 1) * n_heads; ++head) {
        const float* in = px + head * head_dim;
        float* out = py + head * head_dim;
        kernels::rope_rotate(in, cos + t * n_pairs, sin + t * n_pairs, n_pairs, adjacent, out);
        std::copy(in + 2 * n_pairs, in + head_dim, out + 2 * n_pairs);
      }
    }
  });
  // The transpose turns backwards: da = cos dy1 + sin dy2, db = cos dy2 - sin dy1.
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [x = ValueId(x), y = ValueId(y), angles, n, n_heads, head_dim, n_pairs](Tape& t) {
      const Pairs pairs = pairs_of(angles);
      bool fresh = false;
      const float* dy = t.grad(y).data();
      float* dx = t.grad(x, fresh).data();
      Tensor turned = Tensor::empty({n, n_pairs});  // sines of the angles backwards
      for (int64_t i = 0; i < n * n_pairs; ++i) turned.data()[i] = -angles.sin.data()[i];
      for_rows(n, n_heads * head_dim, [&](int64_t begin, int64_t end) {
        for (int64_t head = begin * n_heads; head < end * n_heads; ++head) {
          const float *g = dy + head * head_dim, *c = angles.cos.data() + head / n_heads * n_pairs,
                      *s = angles.sin.data() + head / n_heads * n_pairs;
          float* d = dx + head * head_dim;
          if (fresh) {
            const bool beside = angles.pairing == RopePairing::kAdjacent;
            kernels::rope_rotate(g, c, turned.data() + head / n_heads * n_pairs, n_pairs, beside, d);
            std::copy(g + 2 * n_pairs, g + head_dim, d + 2 * n_pairs);
            continue;
          }
          for (int64_t i = 0; i < n_pairs; ++i) {
            const int64_t first = i * pairs.step, second = first + pairs.apart;
            d[first] += c[i] * g[first] + s[i] * g[second];
            d[second] += c[i] * g[second] - s[i] * g[first];
          }
          for (int64_t i = 2 * n_pairs; i < head_dim; ++i) d[i] += g[i];
        }
      });
    });
  }
  return y;
}

Tensor rope(const Tensor& x, std::span<const int32_t> positions, const RopeTable& table) {
  return rope(x, make_rope_angles(positions, table));
}

}  // namespace fovea::tensor
