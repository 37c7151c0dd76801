// Which heads copy the answer out of the text: the detection of Wu et al., "Retrieval Head
// Mechanistically Explains Long-Context Factuality", arXiv:2404.15574, sec. 2. While a model answers,
// TopKeys keeps only where each head looks most; the scores are computed from that afterwards.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fovea/attention/attend.h"
#include "fovea/tasks/needle.h"

namespace fovea::probe {

// Heads are numbered layer by layer, as in a HeadProfile.
inline size_t head_id(int layer, int head, int n_heads) {
  return static_cast<size_t>(layer) * static_cast<size_t>(n_heads) + static_cast<size_t>(head);
}

// Where every query head looked at each step of a decoding, and the token each step gave.
struct CopyTrace {
  int n_all_heads = 0, top_k = 1;
  std::vector<int32_t> tokens;  // [steps]
  std::vector<int32_t> keys;    // [steps, n_all_heads, top_k]: positions, best first; -1: none
  size_t steps() const { return tokens.size(); }
};

// Keeps the `top_k` most attended positions (equal ones: the lowest first) of each head's row of the
// one query decoded; no row is stored. After sampling, take() moves them into the trace.
class TopKeys final : public attention::RowObserver {
 public:
  TopKeys(int n_layers, int n_heads, int top_k = 1);
  bool wants(int, int, bool decoding) const override { return decoding; }
  void see(const attention::RowView& row, std::span<const float> pattern) override;
  // The step that was just decoded gave `token`.
  void take(int32_t token, CopyTrace& trace);
  CopyTrace new_trace() const { return {.n_all_heads = n_all_, .top_k = top_k_, .tokens = {}, .keys = {}}; }

 private:
  int n_heads_, n_all_, top_k_;
  std::vector<int32_t> keys_;  // [n_all, top_k]
};

enum class ScoreVariant {
  kPaper,  // |needle positions copied| / |needle|
  kCode,   // the authors' program: every hit counts, so that a score may pass 1
};

// Scores of every query head, [n_layers * n_heads]. A head hits at a step if a position it looked at
// lies in the needle and holds the very token that the step gave.
std::vector<double> retrieval_scores(const CopyTrace& trace, std::span<const int32_t> prompt, tasks::TokenSpan needle,
                                     ScoreVariant variant = ScoreVariant::kPaper);

}  // namespace fovea::probe
