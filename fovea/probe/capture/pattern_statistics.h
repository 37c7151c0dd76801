// Mean mass that each head gives to keys of a kind, over the rows of a prompt; no row is kept.
#pragma once

#include <span>
#include <vector>

#include "fovea/attention/attend.h"

namespace fovea::probe {

class PatternStatistics final : public attention::RowObserver {
 public:
  // Rows before `first_query` are left out (they see too few keys to tell). `period`: how many tokens
  // ago the prompt was the same (0: it does not repeat).
  PatternStatistics(int n_layers, int n_heads, int first_query, int period);
  bool wants(int, int, bool decoding) const override { return !decoding; }
  void see(const attention::RowView& row, std::span<const float> pattern) override;

  static constexpr int kLocal = 32;  // keys that count as near, the current one among them
  std::vector<double> sink() const { return mean(&Sums::sink); }
  std::vector<double> local() const { return mean(&Sums::local); }
  std::vector<double> previous() const { return mean(&Sums::previous); }
  std::vector<double> induction() const { return mean(&Sums::induction); }
  // Of each head, the share of the keys behind the first whose mean weight over all rows that see them, kLocal of them
  // or more, is over `threshold`: hidden sinks of arXiv:2406.15765.
  std::vector<double> hidden_sinks(double threshold) const;

 private:
  struct Sums {
    double sink = 0, local = 0, previous = 0, induction = 0;
    int64_t rows = 0;
    std::vector<double> columns = {};  // by position of the key, over all rows
  };
  std::vector<double> mean(double Sums::*sum) const;

  int n_heads_, first_query_, period_;
  std::vector<Sums> sums_;  // rows of one head come in order and from one thread at a time
};

}  // namespace fovea::probe
