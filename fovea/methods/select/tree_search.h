// The tree search of HiP attention: n of many blocks, by the scores of O(n log(n_blocks / n)) of them.
// Lee et al., arXiv:2406.09827, sec. 3 and algorithm 1 (as an integer tree: chunks are never fractions of a length).
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace fovea::attention {

// The block that stands for a chunk. kMax: the highest of all its blocks, which makes the search exact and saves
// nothing: for comparisons.
enum class Representative : int { kFirst, kCenter, kMax };

// `n` of the blocks [0, n_blocks), rising; all of them if there are no more. score(blocks, of_block) sets of_block[b]
// for the blocks that it names, rising, each once in the whole search; NaN is lower than all else.
template <typename Score>
std::vector<int32_t> tree_search(int32_t n_blocks, int32_t n, Representative by, const Score& score) {
  struct Chunk {
    int32_t begin, end;
    float score;
    int32_t size() const { return end - begin; }
  };
  n = std::min(n, n_blocks);
  std::vector<Chunk> chunks, halves;
  for (int64_t j = 0; j < n; ++j)
    chunks.push_back({static_cast<int32_t>(j * n_blocks / n), static_cast<int32_t>((j + 1) * n_blocks / n), 0.0f});
  std::vector<float> of_block(static_cast<size_t>(n_blocks));
  std::vector<char> known(static_cast<size_t>(n_blocks), 0);
  std::vector<int32_t> wanted;
  const auto standing_for = [by](const Chunk& half) {
    if (by == Representative::kMax) return half;
    const int32_t block = by == Representative::kFirst ? half.begin : half.begin + half.size() / 2;
    return Chunk{block, block + 1, 0.0f};
  };
  while (std::any_of(chunks.begin(), chunks.end(), [](const Chunk& chunk) { return chunk.size() > 1; })) {
    halves.clear(), wanted.clear();
    for (const Chunk& chunk : chunks) {
      const int32_t middle = chunk.begin + (chunk.size() + 1) / 2;
      for (const Chunk& half : {Chunk{chunk.begin, middle, 0.0f}, Chunk{middle, chunk.end, 0.0f}}) {
        if (half.size() == 0) continue;
        halves.push_back(half);
        const Chunk stands = standing_for(half);
        for (int32_t b = stands.begin; b < stands.end; ++b) {
          char& here = known[static_cast<size_t>(b)];
          if (!here) wanted.push_back(b);
          here = 1;
        }
      }
    }
    if (!wanted.empty()) score(std::span<const int32_t>(wanted), std::span<float>(of_block));
    for (Chunk& half : halves) {
      const Chunk stands = standing_for(half);
      half.score = -std::numeric_limits<float>::infinity();
      for (int32_t b = stands.begin; b < stands.end; ++b)  // NaN stays out
        half.score = std::max(half.score, of_block[static_cast<size_t>(b)]);
    }
    std::nth_element(halves.begin(), halves.begin() + (n - 1), halves.end(), [](const Chunk& a, const Chunk& b) {
      return a.score != b.score ? a.score > b.score : a.begin < b.begin;
    });
    chunks.assign(halves.begin(), halves.begin() + n);
    std::sort(chunks.begin(), chunks.end(), [](const Chunk& a, const Chunk& b) { return a.begin < b.begin; });
  }
  std::vector<int32_t> out;
  for (const Chunk& chunk : chunks) out.push_back(chunk.begin);
  return out;
}

}  // namespace fovea::attention
