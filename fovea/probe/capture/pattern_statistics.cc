#include "fovea/probe/capture/pattern_statistics.h"

#include "fovea/kernels/attention.h"
#include "fovea/probe/measures/retrieval.h"  // head_id

namespace fovea::probe {

PatternStatistics::PatternStatistics(int n_layers, int n_heads, int first_query, int period)
    : n_heads_(n_heads), first_query_(first_query), period_(period), sums_(head_id(n_layers, 0, n_heads)) {}

void PatternStatistics::see(const attention::RowView& row, std::span<const float> pattern) {
  if (row.q_pos < first_query_) return;
  Sums& sums = sums_[head_id(row.call.layer, row.head, n_heads_)];
  ++sums.rows;
  for (size_t j = 0; j < pattern.size(); ++j) {
    const int32_t key = row.key_positions[j];
    if (key == kernels::kNoPosition || key > row.q_pos) continue;
    const double mass = static_cast<double>(pattern[j]);
    if (key == 0) sums.sink += mass;
    if (row.q_pos - key < kLocal) sums.local += mass;
    if (key == row.q_pos - 1) sums.previous += mass;
    if (period_ > 0 && key == row.q_pos - period_ + 1) sums.induction += mass;
  }
}

std::vector<double> PatternStatistics::mean(double Sums::*sum) const {
  std::vector<double> out;
  for (const Sums& sums : sums_) out.push_back(sums.rows > 0 ? sums.*sum / static_cast<double>(sums.rows) : 0);
  return out;
}

}  // namespace fovea::probe
