// Lists of pages for each query head of a group: what methods share that choose blocks of keys for a tile of rows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fovea/attention/method.h"

namespace fovea::attention {

// Ends tiles at the positions that n_rows divides, so that rows which choose together do so wherever a call begins.
void cut_at_multiples(KeyPlan& plan, int32_t n_rows);

// The pages of a tile that some row sees by the rules of its parts and whose keys all lie in [begin, end); rising.
std::vector<int32_t> pages_within(const KeyPlan& plan, int kv_head, const KeyPlan::Tile& tile, int64_t begin,
                                  int64_t end);

// Leaves query head g of the group, of each of `pages` (rising), the keys in keys[g][i], a bit a slot. Pages that are
// not named stay. Heads that read the same stay together.
void keep_keys(const KeyPlan& plan, KeyPlan::Tile& tile, std::span<const int32_t> pages,
               std::span<const std::vector<uint32_t>> keys);

// Scores of some rows against pages of a KV head, scaled and capped, -inf where a row does not see a key by the layer's
// own window.
class RowScores {
 public:
  // Row i of query head g of the group: q + i * ld_q + g * k_dim.
  RowScores(const Call& call, const KeyPlan& plan, int kv_head, const float* q, int64_t ld_q,
            std::vector<int32_t> q_pos);
  // Of the call's rows [first, first + n) the last, and every step-th before it.
  RowScores(const Call& call, const Queries& queries, const KeyPlan& plan, int kv_head, int64_t first, int64_t n,
            int step = 1);
  RowScores(const RowScores&) = delete;
  RowScores& operator=(const RowScores&) = delete;
  std::span<const int32_t> q_pos() const { return q_pos_; }
  // Of query head g: [rows, pages, kPageKeys]. In memory of the calling thread, until its next call.
  std::span<float> of(int g, std::span<const int32_t> pages) const;

 private:
  const KeyPlan& plan_;
  int kv_head_;
  std::vector<int32_t> q_pos_;
  kernels::AttentionArgs args_;
};

}  // namespace fovea::attention
