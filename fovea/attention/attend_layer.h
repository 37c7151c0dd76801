// One layer on its way through the paths of attend(): for attend*.cc only.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "fovea/attention/attend.h"
#include "fovea/tensor/edit_guard.h"

namespace fovea::attention {

// Throws, naming the method, if it wrote into a value that has a gradient.
void check_not_edited(const tensor::EditGuard& guard, const Method& method);

struct Attend::Layer {
  int index;
  AttentionShape shape;
  tensor::Tensor x = {}, h = {};                // of AttendInput
  tensor::Tensor sinks = {}, by_distance = {};  // likewise
  tensor::Tensor plain, q;                      // as projected, and turned
  tensor::Tensor z;                             // [n, n_heads, v_dim]
  // Where a method joins: of each run, the lse of every part [n, n_heads, parts]; where one weighs the parts, their z
  // [parts, n, n_heads, v_dim] too, else the weight that each had in z.
  struct Parts {
    int64_t n = 0;
    tensor::Tensor z, lse, weights;
  };
  std::vector<Parts> parts = {};

  // What a row whose scores have this log-sum-exp leaves to its keys beside the head's sink.
  float share_of_keys(int head, float lse) const {
    return sinks.defined() ? 1.0f / (1.0f + std::exp(sinks.data()[head] - lse)) : 1.0f;
  }
  // Adds the bias by distance to a row of scaled scores over keys at these positions.
  void add_bias(int head, int32_t q_pos, std::span<const int32_t> positions, float* row) const {
    const int64_t far = by_distance.dim(1) / 2;
    const float* middle = by_distance.data() + head * by_distance.dim(1) + far;
    for (size_t j = 0; j < positions.size(); ++j) {
      if (positions[j] == kernels::kNoPosition) continue;
      row[j] += middle[std::clamp<int64_t>(int64_t{positions[j]} - q_pos, -far, far)];
    }
  }
  int64_t ld_q() const { return int64_t{shape.n_heads} * shape.k_dim; }
  int64_t ld_z() const { return int64_t{shape.n_heads} * shape.v_dim; }
  float* z_of(int64_t row, int head) { return z.data() + row * ld_z() + int64_t{head} * shape.v_dim; }
  // Rows first..first + n of a run, for query heads head..head + n_heads of a KV head's group; no pages yet.
  kernels::AttentionArgs rows(const Attend& attend, size_t run_index, int kv_head, int head, int n_heads, int64_t first,
                              int64_t n, int turn) const {
    const AttendMemory::Run& run = attend.memory_.runs[run_index];
    const int first_head = kv_head * shape.group() + head;
    kernels::AttentionArgs args;
    args.k_type = attend.c_.cache->shape().k_type;
    args.v_type = attend.c_.cache->shape().v_type;
    args.k_dim = shape.k_dim;
    args.v_dim = shape.v_dim;
    args.group = n_heads;
    args.scale = shape.scale;
    args.softcap = shape.softcap;
    args.n_queries = n;
    args.ld_q = ld_q();
    const float* from = turn == 0 ? q.data() + run.begin * ld_q()
                                  : attend.memory_.turned_q[run_index][static_cast<size_t>(turn - 1)].data();
    args.q = from + first * ld_q() + int64_t{first_head} * shape.k_dim;
    args.q_pos = run.positions.data() + first;
    return args;
  }
};

}  // namespace fovea::attention
