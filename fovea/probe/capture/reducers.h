// Streaming reducers of attention patterns: each row is reduced as it is made and then forgotten, so
// that no matrix is ever held, however long the prompt (except by `full`, which is that matrix).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/attention/attend.h"
#include "fovea/attention/shape.h"
#include "fovea/base/result.h"

namespace fovea::probe {

// What becomes of each row p of a head's pattern, query i of n, keys j by position:
//   full       p itself                                     [heads, n, n]
//   topk:K     the K largest weights, largest first         [heads, n, K], and their positions (-1: none); K at most n
//   block:B    sums over B x B blocks                       [heads, ceil(n/B), ceil(n/B)]
//   entropy    -sum p ln p, in nats                         [heads, n]
//   sink:N     sum over the first N positions               [heads, n]
//   local:W    sum over the last W positions up to i        [heads, n]
//   rowsum     sum p: 1 but for what a method took away     [heads, n]
//   max        the largest weight                           [heads, n]
struct Reduction {
  enum class Kind { kFull, kTopK, kBlock, kEntropy, kSink, kLocal, kRowSum, kMax };
  Kind kind = Kind::kFull;
  int64_t size = 0;  // K, B, N or W

  static Result<Reduction> parse(std::string_view text);  // kUsage with the nearest; sizes have defaults
  static std::vector<std::string> help();                 // a line for each
  std::string_view name() const;                          // "topk"
  std::string to_string() const;                          // "topk:16"
  int64_t kept(int64_t n_tokens) const;                   // K of topk: no row has more than n_tokens weights
  std::vector<int64_t> shape(int64_t n_heads, int64_t n_tokens) const;
};

// Reduces the chosen heads' rows of one sequence; attach it with Session::observe. Prefill only: rows
// of generated tokens are not looked at.
class RowReducer final : public attention::RowObserver {
 public:
  RowReducer(const Reduction& reduction, const attention::ModelShape& model, const attention::HeadSet& heads,
             attention::SequenceId sequence, int64_t n_tokens);

  bool wants(int layer, int head, bool decoding) const override { return !decoding && slot(layer, head) >= 0; }
  void see(const attention::RowView& row, std::span<const float> pattern) override;

  // The heads of a layer that are reduced, rising, and what their rows gave: shape(heads, n_tokens).
  const std::vector<int>& heads(int layer) const { return layers_[static_cast<size_t>(layer)].heads; }
  std::span<const float> values(int layer) const { return layers_[static_cast<size_t>(layer)].values; }
  std::span<const int32_t> positions(int layer) const { return layers_[static_cast<size_t>(layer)].positions; }  // topk
  int64_t rows_seen(int layer) const;  // over all heads

 private:
  struct Layer {
    std::vector<int> heads;
    std::vector<float> values;
    std::vector<int32_t> positions;
    std::vector<int64_t> rows;  // by head: how many came
  };
  int slot(int layer, int head) const {
    return slots_[static_cast<size_t>(layer) * static_cast<size_t>(n_heads_) + static_cast<size_t>(head)];
  }

  Reduction reduction_;
  int n_heads_;
  attention::SequenceId sequence_;
  int64_t n_tokens_;
  std::vector<int> slots_;  // [n_layers * n_heads] -> place in Layer::heads; -1: not chosen
  std::vector<Layer> layers_;
};

}  // namespace fovea::probe
