#include "papers/hip-attention/search.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "fovea/base/random.h"
#include "fovea/kernels/attention.h"
#include "papers/support/beside_dense.h"

namespace fovea::papers::hip_attention {
namespace {

using attention::Representative;

constexpr int kDraws = 16;

// For each block of the searched keys its highest weight.
std::vector<float> block_scores(const SearchShape& shape, const std::vector<float>& weights) {
  const Inner inner = inner_keys(shape, static_cast<int32_t>(weights.size()));
  std::vector<float> out;
  for (int32_t key = inner.begin; key < inner.end; key += shape.block)
    out.push_back(*std::max_element(weights.begin() + key, weights.begin() + key + shape.block));
  return out;
}

Searched search_scores(const SearchShape& shape, const std::vector<float>& weights, const std::vector<float>& scores,
                       Representative by) {
  const Inner inner = inner_keys(shape, static_cast<int32_t>(weights.size()));
  const int32_t n_blocks = inner.size() / shape.block, budget = std::max(1, shape.k / shape.block);
  Searched out;
  const auto score = [&](std::span<const int32_t> blocks, std::span<float> of_block) {
    out.n_scored += std::ssize(blocks) * shape.block;
    for (const int32_t block : blocks) of_block[static_cast<size_t>(block)] = scores[static_cast<size_t>(block)];
  };
  for (const int32_t block : attention::tree_search(n_blocks, budget, by, score)) {
    for (int32_t i = 0; i < shape.block; ++i) out.keys.push_back(inner.begin + block * shape.block + i);
  }
  return out;
}

template <typename T>
void shuffle(std::vector<T>& values, size_t begin, size_t end, Rng& random) {
  for (size_t i = end; i > begin + 1; --i) std::swap(values[i - 1], values[begin + random.below(i - begin)]);
}

double neighbour_correlation(const std::vector<float>& weights) {
  std::vector<double> logs;
  for (const float weight : weights) logs.push_back(std::log(std::max(double{weight}, 1e-30)));
  const double n = static_cast<double>(logs.size()), mean = std::accumulate(logs.begin(), logs.end(), 0.0) / n;
  double both = 0, own = 1e-30;
  for (size_t i = 0; i < logs.size(); ++i) {
    own += (logs[i] - mean) * (logs[i] - mean) / n;
    if (i > 0) both += (logs[i] - mean) * (logs[i - 1] - mean) / (n - 1);
  }
  return both / own;
}

double held(const std::vector<float>& weights, const std::vector<int32_t>& keys) {
  double out = 0;
  for (const int32_t key : keys) out += double{weights[static_cast<size_t>(key)]};
  return out;
}

}  // namespace

Inner inner_keys(const SearchShape& shape, int32_t n_keys) {
  constexpr int32_t kPage = kernels::kPageKeys;
  const int32_t begin = (shape.n_sink + kPage - 1) / kPage * kPage, end = (n_keys - shape.window) / kPage * kPage;
  return {begin, std::max(begin, end)};
}

Searched search(const SearchShape& shape, const std::vector<float>& weights, Representative by) {
  return search_scores(shape, weights, block_scores(shape, weights), by);
}

bool recall_of(const SearchShape& shape, const std::vector<float>& weights, uint64_t seed, Recall& out) {
  const Inner inner = inner_keys(shape, static_cast<int32_t>(weights.size()));
  if (inner.size() <= shape.k) return false;
  const auto begin = weights.begin() + inner.begin, end = weights.begin() + inner.end;
  const double most = sum_of_largest({begin, end}, static_cast<size_t>(shape.k));
  if (most <= 0) return false;
  const auto share = [&](const std::vector<float>& of, const Searched& found) { return held(of, found.keys) / most; };
  Rng random(seed);
  const std::vector<float> scores = block_scores(shape, weights);
  std::vector<float> other = scores;
  out.center = share(weights, search_scores(shape, weights, scores, Representative::kCenter));
  out.first = share(weights, search_scores(shape, weights, scores, Representative::kFirst));
  out.blocks = share(weights, search_scores(shape, weights, scores, Representative::kMax));
  const auto draw = [&] {
    for (float& score : other) score = static_cast<float>(random.uniform());
  };
  for (int i = 0; i < kDraws; ++i) {
    other = scores;
    shuffle(other, 0, other.size(), random);
    out.elsewhere += share(weights, search_scores(shape, weights, other, Representative::kCenter)) / kDraws;
    draw();
    out.noise += share(weights, search_scores(shape, weights, other, Representative::kCenter)) / kDraws;
    draw();
    out.random += share(weights, search_scores(shape, weights, other, Representative::kMax)) / kDraws;
  }
  out.locality = neighbour_correlation(scores);
  std::iota(other.begin(), other.end(), 0.0f);
  out.window = share(weights, search_scores(shape, weights, other, Representative::kMax));
  SearchShape fine = shape;
  fine.block = 2;
  out.fine = share(weights, search(fine, weights, Representative::kCenter));
  std::vector<float> moved = weights;
  shuffle(moved, static_cast<size_t>(inner.begin), static_cast<size_t>(inner.end), random);
  out.shuffled = share(moved, search(shape, moved, Representative::kCenter));
  out.fine_shuffled = share(moved, search(fine, moved, Representative::kCenter));
  return true;
}

}  // namespace fovea::papers::hip_attention
