#include "fovea/probe/capture/pattern_statistics.h"

#include <algorithm>

#include "fovea/kernels/attention.h"
#include "fovea/probe/measures/retrieval.h"  // head_id

namespace fovea::probe {

PatternStatistics::PatternStatistics(int n_layers, int n_heads, int first_query, int period)
    : n_heads_(n_heads), first_query_(first_query), period_(period), sums_(head_id(n_layers, 0, n_heads)) {}

void PatternStatistics::see(const attention::RowView& row, std::span<const float> pattern) {
  Sums& sums = sums_[head_id(row.call.layer, row.head, n_heads_)];
  sums.columns.resize(std::max(sums.columns.size(), static_cast<size_t>(row.q_pos) + 1), 0.0);
  for (size_t j = 0; j < pattern.size(); ++j) {
    if (row.key_positions[j] <= row.q_pos)
      sums.columns[static_cast<size_t>(row.key_positions[j])] += static_cast<double>(pattern[j]);
  }
  if (row.q_pos < first_query_) return;
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

std::vector<double> PatternStatistics::hidden_sinks(double threshold) const {
  std::vector<double> out;
  for (const Sums& sums : sums_) {
    const auto n = static_cast<int>(sums.columns.size());  // as many rows
    int n_sinks = 0, n_keys = 0;
    for (int t = 1; t + kLocal <= n; ++t, ++n_keys)
      n_sinks += sums.columns[static_cast<size_t>(t)] > threshold * (n - t);
    out.push_back(n_keys > 0 ? static_cast<double>(n_sinks) / n_keys : 0);
  }
  return out;
}

}  // namespace fovea::probe
