// Attention without a cache: every key comes from this call, in float32, with gradients.
#include <algorithm>
#include <numeric>
#include <utility>

#include "fovea/attention/attend_layer.h"
#include "fovea/base/check.h"
#include "fovea/tensor/ops/attention/attention.h"
#include "fovea/tensor/ops/attention/attention_parts.h"
#include "fovea/tensor/ops/math/add.h"
#include "fovea/tensor/ops/math/binary.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/ops/reduce/softmax.h"
#include "fovea/tensor/ops/shape/copy.h"
#include "fovea/tensor/ops/shape/view.h"

namespace fovea::attention {
namespace {

using kernels::kPageKeys;
using tensor::AttentionPlan;
using tensor::AttentionRead;
using tensor::Tensor;

// Pages hold widths that are multiples of 8; zeros past the end change no score.
Tensor wide(const Tensor& x) {
  const int64_t width = x.dim(2);
  return width % 8 == 0 ? x : tensor::pad(x, 2, 0, (width + 7) / 8 * 8 - width);
}

// Heads that neighbours share, once for each of the n.
Tensor each_head(const Tensor& x, int64_t n) {
  const int64_t m = x.dim(0), heads = x.dim(1), width = x.dim(2);
  if (heads == n) return x;
  return tensor::reshape(tensor::repeat(tensor::reshape(x, {m, heads, 1, width}), 2, n / heads), {m, n, width});
}

int parts_of(const KeyPlan& plan) {
  size_t most = 1;
  for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
    for (int t = 0; plan.touched(kv) && t < plan.n_tiles(); ++t) most = std::max(most, plan.tile(kv, t).parts.size());
  }
  return static_cast<int>(most);
}

AttentionRead read_of(const KeyPlan& plan, int kv_head, int t, const KeyPlan::Tile& tile, size_t index) {
  const KeyPlan::Part& part = tile.parts[index];
  const bool all = part.head == KeyPlan::kAllHeads;
  AttentionRead read{.kv_head = kv_head,
                     .head = all ? 0 : part.head,
                     .n_heads = all ? plan.group() : 1,
                     .first = plan.first_row(t),
                     .n = plan.n_rows(t),
                     .part = static_cast<int>(index),
                     .turn = part.turn,
                     .bias = part.bias,
                     .pages = {},
                     .mask = {},
                     .rules = {part.rules.begin() + (all ? 0 : part.head),
                               all ? part.rules.end() : part.rules.begin() + part.head + 1}};
  const bool masked = std::any_of(part.pages.begin(), part.pages.end(), [](const auto& page) { return page.bits; });
  const auto n_bits = static_cast<size_t>(read.n_heads * read.n);
  for (const KeyPlan::Page& page : part.pages) {
    read.pages.push_back(page.index);
    if (!masked) continue;
    if (page.bits) {
      const uint32_t* bits = page.bits + read.head * read.n;
      read.mask.insert(read.mask.end(), bits, bits + n_bits);
    } else {
      read.mask.insert(read.mask.end(), n_bits, ~uint32_t{0});
    }
  }
  return read;
}

std::vector<AttentionRead> reads_of(const KeyPlan& plan) {
  std::vector<AttentionRead> reads;
  for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
    for (int t = 0; t < plan.n_tiles(); ++t) {
      if (plan.touched(kv)) {
        const KeyPlan::Tile& tile = plan.tile(kv, t);
        for (size_t p = 0; p < tile.parts.size(); ++p) {
          if (!tile.parts[p].pages.empty()) reads.push_back(read_of(plan, kv, t, tile, p));
        }
        continue;
      }
      AttentionRead read{.kv_head = kv, .n_heads = plan.group(), .first = plan.first_row(t), .n = plan.n_rows(t)};
      read.rules = plan.rules(kv);
      for (size_t p = 0; p < plan.pages(kv).size(); ++p) read.pages.push_back(static_cast<int32_t>(p));
      reads.push_back(std::move(read));
    }
  }
  return reads;
}

// z of keys whose rows have these sums [n, n_heads, parts], beside the sinks.
Tensor beside_sinks(const Tensor& z, const Tensor& lse, const Tensor& sinks) {
  if (!sinks.defined()) return z;
  const int64_t n = lse.dim(0), heads = lse.dim(1);
  const Tensor whole = lse.dim(2) == 1 ? tensor::reshape(lse, {n, heads}) : tensor::logsumexp(lse);
  const Tensor share = tensor::sigmoid(tensor::sub(whole, tensor::reshape(sinks, {heads})));
  return tensor::mul_spread(z, tensor::reshape(share, {n, heads, 1}));
}

}  // namespace

// One run whose methods choose or join, or whose rows have sinks, over the keys of its sequence.
Tensor Attend::planned_on_tape(Layer& layer, size_t index, const Tensor& k, const Tensor& v) {
  const Run& run = memory_.runs[index];
  for (int head = 0; head < layer.shape.n_heads; ++head) {
    for (const auto& method : methods(run)) {
      FOVEA_CHECK(!method->edits_rows(layer.index, head, run.decoding()),
                  "attend: {} edits single scores, and those have no gradient", method->info().name);
    }
  }
  int64_t begin = run.begin, end = run.end;  // rows of the sequence
  const auto of_it = [&](int64_t row) { return c_.batch.sequences[static_cast<size_t>(row)] == run.sequence; };
  while (begin > 0 && of_it(begin - 1)) --begin;
  while (end < c_.batch.size() && of_it(end)) ++end;
  const auto rows = [&](const Tensor& x, int64_t first, int64_t last) {
    return wide(last - first == x.dim(0) ? x : tensor::slice(x, 0, first, last));
  };
  const Tensor keys = each_head(rows(k, begin, end), layer.shape.n_kv_heads()),
               values = each_head(rows(v, begin, end), layer.shape.n_kv_heads());
  const auto positions =
      std::span(c_.batch.positions).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  const tensor::FloatPages pages = tensor::float_pages(keys, values, positions);
  make_plan(layer, index, &pages);
  for (int kv = 0; kv < layer.shape.n_kv_heads(); ++kv) {
    FOVEA_CHECK(memory_.plans[index].added(kv).empty(), "attend: a page that a method has made has no gradient");
  }

  AttentionPlan plan{.n_parts = 1,
                     .scale = layer.shape.scale,
                     .softcap = layer.shape.softcap,
                     .q_positions = {run.positions.begin(), run.positions.end()},
                     .reads = reads_of(memory_.plans[index])};
  const int n_parts = plan.n_parts = parts_of(memory_.plans[index]);
  std::vector<Tensor> q = {rows(layer.q, run.begin, run.end)};
  for (const Tensor& turned : memory_.turned_q[index]) q.push_back(wide(turned));
  const auto [z, lse] = tensor::attention_parts(q, keys, values, positions, pages, std::move(plan));
  const tensor::Shape shape{run.n(), layer.shape.n_heads, values.dim(2)};
  const auto joins = [&](const auto& method) { return method->joins(layer.index); };
  Tensor sum;
  if (n_parts == 1 && std::none_of(methods(run).begin(), methods(run).end(), joins)) {
    sum = tensor::reshape(z, shape);
  } else {
    const Tensor weights = weights_of_parts(layer, index, lse);
    for (int p = 0; p < n_parts; ++p) {
      const Tensor part = tensor::mul_spread(tensor::reshape(tensor::slice(z, 0, p, p + 1), shape),
                                             tensor::slice(weights, 2, p, p + 1));
      sum = sum.defined() ? tensor::add(sum, part) : part;
    }
  }
  sum = beside_sinks(sum, lse, layer.sinks);
  return sum.dim(2) == layer.shape.v_dim ? sum : tensor::slice(sum, 2, 0, layer.shape.v_dim);
}

Tensor Attend::cross_on_tape(int layer, const Tensor& q, const Tensor& k, const Tensor& v) {
  FOVEA_CHECK(k.defined() && v.defined(), "attend: without a cache, layer {} wants its keys and values each time",
              layer);
  const AttentionShape shape = c_.model.site(layer);
  const Tensor queries = wide(q), keys = each_head(wide(k), shape.n_kv_heads()),
               values = each_head(wide(v), shape.n_kv_heads());
  std::vector<int32_t> positions(static_cast<size_t>(keys.dim(0)));
  std::iota(positions.begin(), positions.end(), 0);
  const tensor::FloatPages pages = tensor::float_pages(keys, values, positions);
  AttentionPlan plan{.scale = shape.scale, .softcap = shape.softcap};
  plan.q_positions.assign(static_cast<size_t>(q.dim(0)), 0);
  KeyPlan whole;
  whole.begin(plan.q_positions, shape.n_kv_heads(), shape.group(), {.ahead = INT32_MAX});
  for (int kv = 0; kv < shape.n_kv_heads(); ++kv) whole.set_pages(kv, pages.of(kv));
  plan.reads = reads_of(whole);
  const Tensor z = tensor::attention_parts({&queries, 1}, keys, values, positions, pages, std::move(plan)).z;
  const Tensor out = tensor::reshape(z, {q.dim(0), shape.n_heads, values.dim(2)});
  return values.dim(2) == shape.v_dim ? out : tensor::slice(out, 2, 0, shape.v_dim);
}

Tensor Attend::on_tape(Layer& layer, const Tensor& k, const Tensor& v) {
  const auto acts = [&](const Run& run) { return !methods(run).empty(); };
  if (!layer.sinks.defined() && std::none_of(memory_.runs.begin(), memory_.runs.end(), acts)) {
    layer.z = tensor::attention(layer.q, k, v, c_.batch.positions, c_.batch.sequences,
                                {.scale = layer.shape.scale,
                                 .softcap = layer.shape.softcap,
                                 .rule = {.window = layer.shape.window, .ahead = layer.shape.ahead()}});
  } else {
    std::vector<Tensor> parts;
    for (size_t r = 0; r < memory_.runs.size(); ++r) parts.push_back(planned_on_tape(layer, r, k, v));
    layer.z = parts.size() == 1 ? parts[0] : tensor::concat(parts, 0);
    gate(layer);
  }
  return hook(Site::kZ, layer.index, std::move(layer.z));
}

}  // namespace fovea::attention
