#include "fovea/probe/measures/influence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "fovea/attention/hooks.h"
#include "fovea/kernels/vector.h"
#include "fovea/models/support/forward.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/loss/cross_entropy.h"
#include "fovea/tensor/tape.h"

namespace fovea::probe {
namespace {

using tensor::Tensor;

constexpr float kEps = 1e-6f;  // where a row looks at one key alone

// Of one layer: q and k as turned, v, and z with its gradient.
struct LayerValues {
  Tensor q, k, v, z;
};

// E of row i of a query head, over keys 0..i.
void influence_of_row(const attention::AttentionShape& shape, const LayerValues& values, const Tensor& dz, int head,
                      int64_t i, std::span<float> e) {
  const auto at = [head, &shape](const Tensor& x, int64_t row) {
    return x.data() + (row * x.dim(1) + int64_t{head} * x.dim(1) / shape.n_heads) * x.dim(2);
  };
  const float *q = at(values.q, i), *d = at(dz, i);
  const int64_t first = std::max<int64_t>(0, i + 1 - int64_t{shape.window});
  std::fill(e.begin(), e.end(), 0.0f);
  std::vector<float> weights(static_cast<size_t>(i + 1 - first)), g(weights.size());
  for (int64_t j = first; j <= i; ++j) {
    float score = shape.scale * kernels::dot(q, at(values.k, j), shape.k_dim);
    if (shape.softcap > 0) score = shape.softcap * std::tanh(score / shape.softcap);
    weights[static_cast<size_t>(j - first)] = score;
    g[static_cast<size_t>(j - first)] = kernels::dot(d, at(values.v, j), shape.v_dim);
  }
  const auto n = static_cast<int64_t>(weights.size());
  kernels::softmax(weights.data(), n, weights.data());
  const float mean = kernels::dot(weights.data(), g.data(), n);
  for (int64_t j = first; j <= i; ++j) {
    const float a = weights[static_cast<size_t>(j - first)];
    // A row that has one key loses all it gave.
    e[static_cast<size_t>(j)] = n == 1 ? -g[0] : -a / (1 - a + kEps) * (g[static_cast<size_t>(j - first)] - mean);
  }
}

}  // namespace

Result<double> visit_influence(const engine::Model& model, std::span<const int32_t> tokens, size_t n_prompt,
                               FunctionRef<void(int layer, int kv_head, int64_t row, std::span<const float> e)> see,
                               const std::atomic<bool>* cancel) {
  if (n_prompt < 1 || n_prompt >= tokens.size())
    return make_error(ErrorCode::kUsage, "influence: {} of {} tokens are prompt, so none is lost on", n_prompt,
                      tokens.size());
  const attention::ModelShape& shape = model.shape();
  std::vector<LayerValues> layers(static_cast<size_t>(shape.n_layers));
  tensor::Tape tape;
  tensor::Exec exec{.numerics = tensor::Numerics::kExact, .tape = &tape};
  tensor::ExecScope scope(exec);
  attention::Hooks hooks(model.family().hooks());
  // Gradients begin at the first block's input; without a leaf the tape would record nothing.
  FOVEA_RETURN_IF_ERROR(hooks.attach("hook_embed", [&tape](const std::string&, Tensor& x) { tape.watch(x); }));
  for (int l = 0; l < shape.n_layers; ++l) {
    LayerValues& mine = layers[static_cast<size_t>(l)];
    const auto keep = [&](const char* site, Tensor& to) {
      return hooks.attach(fmt::format("blocks.{}.attn.{}", l, site), [&to](const std::string&, Tensor& x) { to = x; });
    };
    FOVEA_RETURN_IF_ERROR(keep("hook_rot_q", mine.q));
    FOVEA_RETURN_IF_ERROR(keep("hook_rot_k", mine.k));
    FOVEA_RETURN_IF_ERROR(keep("hook_v", mine.v));
    FOVEA_RETURN_IF_ERROR(hooks.attach(fmt::format("blocks.{}.attn.hook_z", l), [&](const std::string&, Tensor& x) {
      tape.watch(x);
      mine.z = x;
    }));
  }
  attention::Batch batch;
  batch.add(tokens, 0, 0);
  std::vector<int32_t> targets;
  for (size_t i = n_prompt; i < tokens.size(); ++i) {
    batch.logit_rows.push_back(static_cast<int32_t>(i) - 1);
    targets.push_back(tokens[i]);
  }
  Tensor loss;
  try {
    const Tensor logits = models::forward(
        model.family(), {.model = shape, .ropes = model.config().ropes, .batch = batch, .cancel = cancel}, hooks);
    loss = tensor::cross_entropy(logits, targets).mean();
  } catch (const attention::Cancelled&) {
    return make_error(ErrorCode::kCancelled, "interrupted");
  }
  tape.backward(loss);
  for (int l = 0; l < shape.n_layers; ++l) {
    const attention::AttentionShape site = shape.site(l);
    LayerValues& mine = layers[static_cast<size_t>(l)];
    const Tensor& dz = tape.grad(mine.z);
    constexpr int64_t kRows = 32;  // of a task: later rows are longer
    const auto n = static_cast<int64_t>(tokens.size()), n_tasks = (n + kRows - 1) / kRows;
    pool().for_each(site.n_kv_heads() * n_tasks, [&](int64_t task, int) {
      const auto kv = static_cast<int>(task / n_tasks);
      for (int64_t i = task % n_tasks * kRows; i < std::min(n, (task % n_tasks + 1) * kRows); ++i) {
        std::vector<float> e(static_cast<size_t>(site.group() * (i + 1)));
        for (int g = 0; g < site.group(); ++g)
          influence_of_row(site, mine, dz, kv * site.group() + g, i,
                           std::span(e).subspan(static_cast<size_t>(g * (i + 1)), static_cast<size_t>(i + 1)));
        see(l, kv, i, e);
      }
    });
    mine = {};
    if (cancel && cancel->load()) return make_error(ErrorCode::kCancelled, "interrupted");
  }
  return static_cast<double>(loss.data()[0]);
}

double Influence::lost(size_t head, int64_t n_blocks) const {
  const std::vector<double>& mine = by_distance[head];
  const auto from = mine.begin() + std::min<ptrdiff_t>(std::max<ptrdiff_t>(0, n_blocks), std::ssize(mine));
  return std::accumulate(from, mine.end(), 0.0);
}

Result<Influence> measure_influence(const engine::Model& model, std::span<const int32_t> tokens, size_t n_prompt,
                                    int block, const std::atomic<bool>* cancel) {
  const attention::ModelShape& shape = model.shape();
  const size_t n_blocks = (tokens.size() + static_cast<size_t>(block) - 1) / static_cast<size_t>(block);
  Influence out;
  out.by_distance.assign(static_cast<size_t>(shape.n_layers * shape.n_kv_heads), std::vector<double>(n_blocks, 0.0));
  // Rows come from any thread in any order: each has its own sums, added in order of the rows.
  std::vector<std::vector<std::vector<double>>> rows(out.by_distance.size());
  for (auto& head : rows) head.resize(tokens.size());
  const auto see = [&](int layer, int kv, int64_t row, std::span<const float> e) {
    const auto id = static_cast<size_t>(layer * shape.n_kv_heads + std::min(kv, shape.n_kv_heads - 1));
    const auto n = static_cast<size_t>(row) + 1;
    std::vector<double>& sums = rows[id][static_cast<size_t>(row)];
    sums.assign(n_blocks, 0.0);
    for (size_t j = static_cast<size_t>(block); j < n; ++j) {
      float most = 0;
      for (size_t g = 0; g < e.size() / n; ++g) most = std::max(most, std::abs(e[g * n + j]));
      sums[static_cast<size_t>(row) / static_cast<size_t>(block) - j / static_cast<size_t>(block)] +=
          static_cast<double>(most);
    }
  };
  FOVEA_ASSIGN_OR_RETURN(out.loss, visit_influence(model, tokens, n_prompt, see, cancel));
  for (size_t id = 0; id < rows.size(); ++id) {
    for (const std::vector<double>& row : rows[id]) {
      for (size_t d = 0; d < row.size(); ++d) out.by_distance[id][d] += row[d];
    }
  }
  return out;
}

}  // namespace fovea::probe
