// Attention over chosen keys: every row may read several lists of pages, each a softmax of its own with a log-sum-exp.
// What a plan of keys (fovea/attention/key_plan.h) comes to in float32, with gradients.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fovea/kernels/attention.h"
#include "fovea/tensor/ops/attention/float_pages.h"
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

// What some rows of neighbouring query heads of one KV head read together.
struct AttentionRead {
  int kv_head = 0;
  int head = 0, n_heads = 1;                 // of the KV head's group
  int64_t first = 0, n = 0;                  // rows
  int part = 0;                              // of the result that it is
  int turn = 0;                              // the q that it reads with
  float bias = 0;                            // added to its scores, behind scale and soft cap; so it is in lse
  std::vector<int32_t> pages = {};           // rising
  std::vector<uint32_t> mask = {};           // [pages, n_heads, n] bits of keys; empty: all
  std::vector<kernels::KeyRule> rules = {};  // [n_heads]
};
struct AttentionPlan {
  int n_parts = 1;
  float scale = 1, softcap = 0;
  std::vector<int32_t> q_positions = {};  // of the rows, rising
  std::vector<AttentionRead> reads = {};  // each (row, head, part) at most once
};
struct AttentionParts {
  Tensor z;    // [parts, n, n_heads, v_dim]; zeros where a row has no key
  Tensor lse;  // [n, n_heads, parts] log-sum-exp of the scores; -inf where a row has no key
};
// q: one tensor [n, n_heads, k_dim] for every turn; k [m, n_kv_heads, k_dim] and v [m, n_kv_heads, v_dim] at
// `positions`, rising; all rotated, widths multiples of 8 up to 256. `pages`: float_pages of k and v.
AttentionParts attention_parts(std::span<const Tensor> q, const Tensor& k, const Tensor& v,
                               std::span<const int32_t> positions, const FloatPages& pages, AttentionPlan plan);
FloatPages float_pages(const Tensor& k, const Tensor& v, std::span<const int32_t> positions);
}  // namespace fovea::tensor
