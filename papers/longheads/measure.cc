#include "papers/longheads/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "fovea/tensor/ops/attention/rope.h"
#include "papers/support/beside_dense.h"
#include "papers/support/text_loss.h"

namespace fovea::papers::longheads {
namespace {

using tensor::Tensor;

// What a layer's heads bring for every token of a text that dense attention reads.
struct Projected {
  Tensor q, k, v;  // [n_tokens, heads, dim], q and k not turned
};
Result<std::vector<Projected>> projections(Run& run, const std::vector<int32_t>& tokens) {
  FOVEA_ASSIGN_OR_RETURN(const auto session,
                         engine::Session::create(run.model(), {.numerics = kernels::Numerics::kExact, .chunk = 4096}));
  std::vector<Projected> out(static_cast<size_t>(session->shape().n_layers));
  const auto keep = [&](const char* what, Tensor Projected::*to) {
    return session->hooks().attach(fmt::format("blocks.*.attn.hook_{}", what),
                                   [&out, to](const std::string& name, Tensor& x) {
                                     const int layer = std::stoi(name.substr(name.find('.') + 1));
                                     out[static_cast<size_t>(layer)].*to = Tensor::from(x.shape(), x.values());
                                   });
  };
  FOVEA_RETURN_IF_ERROR(keep("q", &Projected::q));
  FOVEA_RETURN_IF_ERROR(keep("k", &Projected::k));
  FOVEA_RETURN_IF_ERROR(keep("v", &Projected::v));
  FOVEA_RETURN_IF_ERROR(session->prefill(session->begin(), tokens));
  return out;
}

std::span<const float> row_of(const Tensor& x, int64_t row, int64_t head) {
  return x.values().subspan(static_cast<size_t>((row * x.dim(1) + head) * x.dim(2)), static_cast<size_t>(x.dim(2)));
}
double dot(std::span<const float> a, std::span<const float> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0, std::plus<>(),
                            [](float x, float y) { return double{x} * double{y}; });
}
// softmax(scale query.k) over `rows`, of the keys [begin, begin + n).
std::vector<float> pooled(std::span<const float> query, const Tensor& keys, const Tensor& values, int64_t head,
                          int64_t k_head, double scale) {
  std::vector<double> weights;
  for (int64_t j = 0; j < keys.dim(0); ++j) weights.push_back(scale * dot(query, row_of(keys, j, k_head)));
  const double top = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - top);
  std::vector<double> out(static_cast<size_t>(values.dim(2)), 0.0);
  for (int64_t j = 0; j < keys.dim(0); ++j) {
    const std::span<const float> value = row_of(values, j, head);
    for (size_t d = 0; d < out.size(); ++d) out[d] += weights[static_cast<size_t>(j)] / sum * double{value[d]};
  }
  return {out.begin(), out.end()};
}

// The key of a chunk for a query head (sec. 3.2), in plain loops: q and k turned as if the chunk stood first.
std::vector<float> chunk_key(const Projected& of, const attention::AttentionShape& site,
                             std::span<const tensor::RopeTable> ropes, int head, int chunk, int length) {
  const auto part = [&](const Tensor& x) {
    return Tensor::from({length, x.dim(1), x.dim(2)},
                        x.values().subspan(static_cast<size_t>(chunk * length * x.dim(1) * x.dim(2)),
                                           static_cast<size_t>(length * x.dim(1) * x.dim(2))));
  };
  std::vector<int32_t> local(static_cast<size_t>(length));
  std::iota(local.begin(), local.end(), 0);
  const auto turned = [&](const Tensor& x) {
    return site.rope < 0 ? x : tensor::rope(x, local, ropes[static_cast<size_t>(site.rope)]);
  };
  const Tensor q = turned(part(of.q)), k = turned(part(of.k)), v = part(of.v);
  const int k_head = head * site.n_k_heads / site.n_heads, v_head = head * site.n_v_heads / site.n_heads;
  std::vector<float> mean(static_cast<size_t>(site.v_dim), 0.0f);
  for (int64_t row = 0; row < length; ++row) {
    const std::vector<float> z = pooled(row_of(q, row, head), k, v, v_head, k_head, double{site.scale});
    for (size_t d = 0; d < mean.size(); ++d) mean[d] += z[d] / static_cast<float>(length);
  }
  return pooled(mean, k, k, k_head, k_head, 1 / std::sqrt(static_cast<double>(site.k_dim)));
}

std::set<int32_t> chunks_of(const RowBeside& row, int length) {
  std::set<int32_t> out;
  for (const ReadKey& key : row.read) out.insert(key.position / length);
  return out;
}

}  // namespace

Result<Picked> picked(Run& run) {
  constexpr int kChunk = 32, kRead = 4, kTokens = 300, kSteps = 3;
  FOVEA_ASSIGN_OR_RETURN(const auto tokens, text_tokens(run, kTokens));
  FOVEA_ASSIGN_OR_RETURN(const auto of, projections(run, tokens));
  const attention::ModelShape& shape = run.model()->shape();
  const std::span<const tensor::RopeTable> ropes = run.model()->config().ropes_for(shape.n_ctx);
  constexpr int kOwn = (kTokens - 1) / kChunk;
  std::vector<std::vector<std::vector<float>>> keys;  // of each layer and head, of each chunk before a row's own
  for (int layer = 0; layer < shape.n_layers; ++layer) {
    for (int head = 0; head < shape.n_heads; ++head) {
      auto& to = keys.emplace_back();
      for (int chunk = 0; chunk < kOwn; ++chunk)
        to.push_back(chunk_key(of[static_cast<size_t>(layer)], shape.site(layer), ropes, head, chunk, kChunk));
    }
  }
  Picked out;
  const BesideOptions options{.attention = fmt::format("longheads:chunk={}:n_chunks={}:begin=0", kChunk, kRead),
                              .n_decoded = kSteps,
                              .numerics = kernels::Numerics::kExact};
  FOVEA_RETURN_IF_ERROR(beside_dense(run, tokens, options, [&](const RowBeside& row) {
    const auto& of_head = keys[static_cast<size_t>(row.layer * shape.n_heads + row.head)];
    const std::span<const float> q = row_of(of[static_cast<size_t>(row.layer)].q, row.q_pos, row.head);
    std::vector<std::pair<double, int32_t>> ranked;
    for (int32_t chunk = 1; chunk < kOwn - 1; ++chunk)
      ranked.emplace_back(-dot(q, of_head[static_cast<size_t>(chunk)]), chunk);
    double mine = 0, best = 0;
    const std::set<int32_t> read = chunks_of(row, kChunk);
    for (const auto& [score, chunk] : ranked) mine -= read.contains(chunk) ? score : 0;
    std::sort(ranked.begin(), ranked.end());
    std::set<int32_t> wanted = {0, kOwn - 1, kOwn};
    for (size_t i = 0; i < kRead - 3; ++i) best -= ranked[i].first, wanted.insert(ranked[i].second);
    const double range = ranked.back().first - ranked.front().first;
    ++out.n_rows, out.n_alike += read == wanted;
    out.worst = std::max(out.worst, read.size() == wanted.size() ? (best - mine) / range : 1.0);
  }));
  return out;
}

std::string with_chunks(const Run& run, const std::string& knobs) {
  return fmt::format("longheads:chunk={}:n_chunks={}:share={}{}", run.number("chunk"), run.number("chunks"),
                     run.word("share"), knobs);
}
int budget(const Run& run) { return run.number("chunk") * run.number("chunks"); }
std::string window(int n_keys) { return fmt::format("streaming-llm:n_sink=0:window={}", n_keys); }

Result<Coverage> coverage(Run& run) {
  const int length = run.lengths("length", 0)[0], chunk = run.number("chunk");
  const Json setting = {{"chunks that are read of a text", length}};
  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell(with_chunks(run), setting, [&]() -> Result<Json> {
    FOVEA_ASSIGN_OR_RETURN(const auto tokens, text_tokens(run, length));
    std::map<int32_t, std::set<int32_t>> of_row;
    FOVEA_RETURN_IF_ERROR(beside_dense(run, tokens, {.attention = with_chunks(run)},
                                       [&](const RowBeside& row) { of_row[row.q_pos].merge(chunks_of(row, chunk)); }));
    size_t fewest = SIZE_MAX;
    for (const auto& [q_pos, chunks] : of_row) fewest = std::min(fewest, chunks.size());
    return Json{{"distinct", fewest}};
  }));
  return Coverage{cell.at("distinct").get<int>(), (length - 1) / chunk + 1};
}

}  // namespace fovea::papers::longheads
