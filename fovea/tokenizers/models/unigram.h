// The unigram language model (Kudo, arXiv:1804.10959): of all ways to cut a word into tokens, the one with the
// greatest sum of their scores (log probabilities), by dynamic programming.
#pragma once

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "fovea/tokenizers/models/fallback.h"
#include "fovea/tokenizers/models/model.h"

namespace fovea::tokenizers {

struct UnigramParts {
  std::vector<std::pair<std::string_view, int32_t>> tokens;  // that text may become; none empty
  std::vector<double> scores;                                // by id, finite
  double unknown_score = 0;                                  // of a character in no token
  Fallback fallback;
};

std::unique_ptr<Model> make_unigram(const UnigramParts& parts);

}  // namespace fovea::tokenizers
