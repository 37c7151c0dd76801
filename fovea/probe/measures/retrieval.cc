#include "fovea/probe/measures/retrieval.h"

#include <algorithm>
#include <limits>
#include <map>

#include "fovea/base/check.h"

namespace fovea::probe {

TopKeys::TopKeys(int n_layers, int n_heads, int top_k)
    : n_heads_(n_heads), n_all_(n_layers * n_heads), top_k_(top_k), keys_(static_cast<size_t>(n_all_ * top_k), -1) {
  FOVEA_CHECK(top_k >= 1, "top keys: top_k is {}", top_k);
}

void TopKeys::see(const attention::RowView& row, std::span<const float> pattern) {
  int32_t* best = keys_.data() + (row.call.layer * n_heads_ + row.head) * top_k_;
  std::fill_n(best, top_k_, -1);
  if (top_k_ == 1) {
    float most = -std::numeric_limits<float>::infinity();
    for (size_t j = 0; j < pattern.size(); ++j) {
      if (pattern[j] > most && row.key_positions[j] != kernels::kNoPosition) {
        most = pattern[j];
        *best = row.key_positions[j];
      }
    }
    return;
  }
  std::vector<float> values(static_cast<size_t>(top_k_), -std::numeric_limits<float>::infinity());
  for (size_t j = 0; j < pattern.size(); ++j) {
    if (row.key_positions[j] == kernels::kNoPosition) continue;
    // Equal values stay in order of position.
    const auto at = std::upper_bound(values.begin(), values.end(), pattern[j], std::greater<>()) - values.begin();
    if (at == top_k_) continue;
    std::move_backward(values.begin() + at, values.end() - 1, values.end());
    std::move_backward(best + at, best + top_k_ - 1, best + top_k_);
    values[static_cast<size_t>(at)] = pattern[j];
    best[at] = row.key_positions[j];
  }
}

void TopKeys::take(int32_t token, CopyTrace& trace) {
  FOVEA_CHECK(trace.n_all_heads == n_all_ && trace.top_k == top_k_, "top keys: a trace of another shape");
  trace.tokens.push_back(token);
  trace.keys.insert(trace.keys.end(), keys_.begin(), keys_.end());
  std::fill(keys_.begin(), keys_.end(), -1);
}

std::vector<double> retrieval_scores(const CopyTrace& trace, std::span<const int32_t> prompt, tasks::TokenSpan needle,
                                     ScoreVariant variant) {
  FOVEA_CHECK(needle.begin >= 0 && needle.size() > 0 && static_cast<size_t>(needle.end) <= prompt.size(),
              "retrieval scores: a needle at [{}, {}) of {} tokens", needle.begin, needle.end, prompt.size());
  const auto n_all = static_cast<size_t>(trace.n_all_heads), top_k = static_cast<size_t>(trace.top_k);
  std::vector<int> hits(n_all, 0);
  std::vector<bool> seen(n_all * static_cast<size_t>(needle.size()), false);
  for (size_t step = 0; step < trace.steps(); ++step) {
    for (size_t head = 0; head < n_all; ++head) {
      for (size_t k = 0; k < top_k; ++k) {
        const int32_t key = trace.keys[(step * n_all + head) * top_k + k];
        if (!needle.contains(key) || prompt[static_cast<size_t>(key)] != trace.tokens[step]) continue;
        const size_t place = head * static_cast<size_t>(needle.size()) + static_cast<size_t>(key - needle.begin);
        if (variant == ScoreVariant::kPaper && seen[place]) continue;
        seen[place] = true;
        ++hits[head];
      }
    }
  }
  std::vector<double> scores(n_all);
  for (size_t head = 0; head < n_all; ++head) scores[head] = hits[head] / static_cast<double>(needle.size());
  return scores;
}

}  // namespace fovea::probe
