// One layer of made-up queries, keys and values under an --attention: for what must hold to rounding, at a size that
// plain loops follow.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "fovea/attention/attend.h"
#include "papers/support/beside_dense.h"

namespace fovea::papers {

// What the token at a position brings to a head, kMadeDim numbers.
using MadeUp = std::function<void(int32_t position, int head, std::span<float> to)>;
inline constexpr int kMadeDim = 16;
// Normal numbers of a deviation; `what` tells q, k and v apart.
MadeUp noise(uint64_t what, double deviation = 1.5);

struct MadeShape {
  int n_heads = 1, n_kv_heads = 1;
  bool turned = false;  // q and k turn by their positions (RoPE)
  MadeUp q = noise(0), k = noise(1), v = noise(2);
};

class MadeLayer {
 public:
  MadeLayer(const std::string& attention, MadeShape shape);
  MadeLayer(const MadeLayer&) = delete;
  MadeLayer& operator=(const MadeLayer&) = delete;

  // The next tokens, in one call; then what the last of them gets and reads, of a query head.
  void read(int n_tokens, attention::Phase phase);
  void decode(int n_tokens);  // one by one
  std::span<const float> z(int head = 0) const;
  const std::vector<ReadKey>& keys(int head = 0) const { return keys_[static_cast<size_t>(head)]; }
  std::vector<int32_t> positions(int head = 0) const;
  // q.k, neither turned, by double sums.
  double product(int32_t q_pos, int head, int32_t key) const;

 private:
  struct Watch;
  MadeShape made_;
  attention::ModelShape shape_;
  tensor::RopeTable rope_;
  attention::KvCache cache_;
  attention::Pipeline pipeline_;
  int32_t next_ = 0;
  std::vector<float> z_;
  std::vector<std::vector<ReadKey>> keys_;
};

double largest_difference(std::span<const float> a, std::span<const float> b);

}  // namespace fovea::papers
