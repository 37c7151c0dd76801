// Lists of English words that tasks draw from: each word once, in lower case but for names, and none in two lists.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/random.h"

namespace fovea::tasks {

const std::vector<std::string>& adjectives();
const std::vector<std::string>& nouns();   // things that can be found, carried, seen
const std::vector<std::string>& trades();  // "baker"
const std::vector<std::string>& first_names();
const std::vector<std::string>& family_names();
const std::vector<std::string>& towns();
const std::vector<std::string>& foods();
const std::vector<std::string>& months();

inline const std::string& one_of(const std::vector<std::string>& words, Rng& rng) {
  return words[rng.below(words.size())];
}

template <typename T>
void shuffle(std::vector<T>& items, Rng& rng) {
  for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[rng.below(i)]);
}

// `n` different ones in random order. Precondition: there are so many.
std::vector<std::string> some_of(std::vector<std::string> words, size_t n, Rng& rng);

// "amber-lantern", `n` different ones: what RULER calls the keys of type word.
std::vector<std::string> draw_keys(size_t n, Rng& rng);
// `n` different numbers of `digits` digits, the first of them not 0.
std::vector<std::string> draw_numbers(size_t n, int digits, Rng& rng);
// "1, 2 and 3"
std::string enumerate(const std::vector<std::string>& words);

}  // namespace fovea::tasks
