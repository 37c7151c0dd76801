// What needles are hidden in: sentence after sentence, of texts or written by a grammar, never the same filler again.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/engine/document.h"

namespace fovea::tasks {

// Sentences of a small grammar over words.h: people, trades, things, towns, weather. They say nothing of numbers,
// keys or variables. A line begins every few sentences.
class Prose {
 public:
  explicit Prose(uint64_t seed) : rng_(seed) {}
  std::string next();  // a sentence with what stands before it: " " or "\n"

 private:
  std::string sentence();

  Rng rng_;
  uint64_t left_ = 0;  // sentences of this paragraph
};

// A text cut behind each sentence, its white space kept; what has no sentence end for 400 bytes is cut at a space.
std::vector<std::string_view> split_sentences(std::string_view text);

// The sentences of `texts`, all of them once, from a place that the seed draws, round to there again; then, and without
// texts from the start, prose. `texts` must outlive it.
class Haystack {
 public:
  Haystack(std::span<const engine::Document> texts, uint64_t seed);
  std::string next();

 private:
  std::vector<std::string_view> sentences_;
  size_t at_ = 0, n_given_ = 0;
  Prose prose_;
};

}  // namespace fovea::tasks
