#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "papers/longheads/measure.h"
#include "papers/support/made_layer.h"

namespace fovea::papers::longheads {
namespace {

using attention::Phase;

constexpr int kMadeChunk = 32;

std::set<int32_t> chunks_of(const MadeLayer& layer, int head) {
  std::set<int32_t> out;
  for (const int32_t key : layer.positions(head)) out.insert(key / kMadeChunk);
  return out;
}

// The first two chunks have no weight, and one is not read: all others keep their distances.
double without_weightless() {
  constexpr int kOwn = 6, kTokens = kOwn * kMadeChunk + 20;
  MadeShape shape{.n_heads = 4, .n_kv_heads = 2, .turned = true};
  // The slowest pair of numbers hardly turns in a text of this length.
  shape.q = [](int32_t position, int head, std::span<float> to) {
    noise(0)(position, head, to);
    to[7] = 12, to[15] = 0;
  };
  shape.k = [](int32_t position, int head, std::span<float> to) {
    noise(1)(position, head, to);
    to[7] = position < 2 * kMadeChunk ? -30 : 0, to[15] = 0;
  };
  double apart = 0;
  for (const bool decoding : {true, false}) {
    const auto read = [&](MadeLayer& layer) {
      layer.read(decoding ? kTokens - 1 : kTokens, Phase::kPromptEnd);
      if (decoding) layer.decode(1);
    };
    MadeLayer chunks(fmt::format("longheads:chunk={}:n_chunks={}:begin=0", kMadeChunk, kOwn), shape),
        dense("dense", shape);
    read(chunks), read(dense);
    FOVEA_CHECK(chunks_of(chunks, 0).size() <= kOwn, "longheads: all chunks are read");
    for (int head = 0; head < 4; ++head) apart = std::max(apart, largest_difference(chunks.z(head), dense.z(head)));
  }
  return apart;
}

// A row's own key is like its query, others are not.
double weight_of_own() {
  MadeShape shape{.n_heads = 2, .n_kv_heads = 2};
  shape.q = noise(5, 3), shape.k = noise(5, 3);
  double least = 1;
  for (const bool decoding : {true, false}) {
    MadeLayer layer("longheads:chunk=32:n_chunks=3:begin=0", shape);
    layer.read(decoding ? 200 : 201, Phase::kPromptEnd);
    if (decoding) layer.decode(1);
    for (int head = 0; head < 2; ++head) {
      const ReadKey& last = layer.keys(head).back();
      least = std::min(least, last.position == 200 ? double{last.weight} : 0.0);
    }
  }
  return least;
}

// Values of a chunk are all w: so is the query that stands for it, and its key is softmax(w k / sqrt(d)) k. Where keys
// of a chunk are all u too, that is u.
void compare_closed_form(bool equal_keys, Planted& out) {
  constexpr int kChunks = 9, kRead = 5;
  const MadeUp plain = noise(1);
  const auto of_chunk = [](const MadeUp& made) -> MadeUp {
    return
        [made](int32_t position, int head, std::span<float> to) { made(position / kMadeChunk * kMadeChunk, head, to); };
  };
  MadeShape shape{.n_heads = 4, .n_kv_heads = 2};
  shape.k = equal_keys ? of_chunk(plain) : plain, shape.v = of_chunk(noise(2));
  MadeLayer layer(fmt::format("longheads:chunk={}:n_chunks={}:begin=0", kMadeChunk, kRead), shape);
  layer.read(kChunks * kMadeChunk + 3, Phase::kPromptEnd);
  for (int32_t q_pos = kChunks * kMadeChunk + 3; q_pos < kChunks * kMadeChunk + 13; ++q_pos) {
    layer.decode(1);
    for (int head = 0; head < 4; ++head) {
      std::vector<std::pair<double, int32_t>> ranked;
      for (int32_t chunk = 1; chunk < kChunks - 1; ++chunk) {
        float w[kMadeDim], k[kMadeDim];
        shape.v(chunk * kMadeChunk, head / 2, w);
        double sum = 0, score = 0;
        for (int32_t key = chunk * kMadeChunk; key < (chunk + 1) * kMadeChunk; ++key) {
          shape.k(key, head / 2, k);
          const double weight = std::exp(std::inner_product(w, w + kMadeDim, k, 0.0) / 4);
          sum += weight, score += weight * layer.product(q_pos, head, key);
        }
        ranked.emplace_back(-score / sum, chunk);
      }
      std::sort(ranked.begin(), ranked.end());
      std::set<int32_t> wanted = {0, kChunks - 1, kChunks};
      for (int i = 0; i < kRead - 3; ++i) wanted.insert(ranked[static_cast<size_t>(i)].second);
      ++out.n_rows, out.n_alike += chunks_of(layer, head) == wanted;
    }
  }
}

}  // namespace

Planted planted() {
  Planted out;
  out.apart = without_weightless(), out.own = weight_of_own();
  compare_closed_form(true, out);
  compare_closed_form(false, out);
  return out;
}

}  // namespace fovea::papers::longheads
