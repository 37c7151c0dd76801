// A second way to PINE's rows, on what a model projects: each key is turned to the place that the card gives it, and
// the row's own query to its own, where the method turns the query for every shift instead (arXiv:2407.01100, sec. 3).
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <set>

#include "papers/pine/measure.h"

namespace fovea::papers::pine {
namespace {

using tensor::Tensor;

constexpr double kTie = 1e-6;  // of the larger: below that the two ways may order two segments otherwise

// What one layer projected, rows one after the other.
struct Projected {
  std::vector<float> q, k, v, z;
};

class LiteralLayer {
 public:
  LiteralLayer(const attention::AttentionShape& shape, const tensor::RopeTable& rope, const Prompt& prompt,
               const Projected& values)
      : shape_(shape), rope_(rope), prompt_(prompt), values_(values) {}

  // The segments as a row of a head sees them, the nearest first; empty where two are as important.
  std::vector<size_t> order(int32_t row, int head) const {
    const size_t m = prompt_.segments.size(), own = segment(row);
    std::vector<double> importance(m, 0.0);
    const int32_t first = own < m ? prompt_.segments[own].begin : row,
                  last = own < m ? prompt_.segments[own].end : row + 1;
    for (int32_t i = first; i < last; ++i) {
      std::vector<double> scores;
      double highest = -INFINITY, sum = 0;
      for (int32_t j = begin(); j < end(); ++j) {
        scores.push_back(segment(j) == own ? -INFINITY : shape_.scale * dot(q(i, head), k(j, head)));
        highest = std::max(highest, scores.back());
      }
      for (double& score : scores) sum += score = std::exp(score - highest);
      for (int32_t j = begin(); j < end(); ++j)
        importance[segment(j)] += scores[static_cast<size_t>(j - begin())] / sum / size(segment(j));
    }
    std::vector<size_t> out(m);
    for (size_t s = 0; s < m; ++s) out[s] = s;
    std::sort(out.begin(), out.end(),
              [&](size_t a, size_t b) { return a == own || (b != own && importance[a] > importance[b]); });
    for (size_t s = own < m ? 2 : 1; s < m; ++s) {
      if (importance[out[s - 1]] - importance[out[s]] < kTie * importance[out[s - 1]]) return {};
    }
    return out;
  }

  // The row's z with the segments at the places of that order.
  std::vector<double> z(int32_t row, int head, const std::vector<size_t>& order) const {
    const size_t m = prompt_.segments.size(), own = segment(row);
    std::vector<int32_t> place(static_cast<size_t>(n()));
    for (int32_t j = 0; j < n(); ++j) place[static_cast<size_t>(j)] = j;
    int32_t at = end();
    for (const size_t s : order) {
      const attention::Span& span = prompt_.segments[s];
      at -= span.end - span.begin;
      for (int32_t j = span.begin; j < span.end; ++j) place[static_cast<size_t>(j)] = at + j - span.begin;
    }
    const std::vector<float> mine = turned(q(row, head), place[static_cast<size_t>(row)]);
    std::vector<double> weights(static_cast<size_t>(n()), -INFINITY), out(static_cast<size_t>(shape_.v_dim), 0.0);
    double highest = -INFINITY, sum = 0;
    for (int32_t j = 0; j < n(); ++j) {
      const int32_t to = place[static_cast<size_t>(j)];
      if (to > place[static_cast<size_t>(row)] || (own < m && j >= end())) continue;
      weights[static_cast<size_t>(j)] = shape_.scale * dot(mine.data(), turned(k(j, head), to).data());
      highest = std::max(highest, weights[static_cast<size_t>(j)]);
    }
    for (double& weight : weights) sum += weight = std::exp(weight - highest);
    for (int32_t j = 0; j < n(); ++j) {
      const int64_t v_head = int64_t{head} * shape_.n_v_heads / shape_.n_heads;
      const float* value = values_.v.data() + (int64_t{j} * shape_.n_v_heads + v_head) * shape_.v_dim;
      for (size_t d = 0; d < out.size(); ++d) out[d] += weights[static_cast<size_t>(j)] / sum * double{value[d]};
    }
    return out;
  }
  // How far the method's is from it, by the largest of the row.
  double apart(int32_t row, int head, const std::vector<double>& z) const {
    double most = 0, off = 0;
    const float* theirs = values_.z.data() + (int64_t{row} * shape_.n_heads + head) * shape_.v_dim;
    for (size_t d = 0; d < z.size(); ++d)
      most = std::max(most, std::abs(z[d])), off = std::max(off, std::abs(z[d] - double{theirs[d]}));
    return off / most;
  }

 private:
  int32_t begin() const { return prompt_.segments.front().begin; }
  int32_t end() const { return prompt_.segments.back().end; }
  int32_t n() const { return static_cast<int32_t>(prompt_.tokens.size()); }
  double size(size_t s) const { return prompt_.segments[s].end - prompt_.segments[s].begin; }
  size_t segment(int32_t position) const {
    size_t s = 0;
    while (s < prompt_.segments.size() && (position < prompt_.segments[s].begin || position >= prompt_.segments[s].end))
      ++s;
    return s;
  }
  const float* q(int32_t row, int head) const {
    return values_.q.data() + (int64_t{row} * shape_.n_heads + head) * shape_.k_dim;
  }
  const float* k(int32_t row, int head) const {
    return values_.k.data() +
           (int64_t{row} * shape_.n_k_heads + int64_t{head} * shape_.n_k_heads / shape_.n_heads) * shape_.k_dim;
  }
  double dot(const float* a, const float* b) const {
    double out = 0;
    for (int d = 0; d < shape_.k_dim; ++d) out += double{a[d]} * double{b[d]};
    return out;
  }
  std::vector<float> turned(const float* x, int32_t place) const {
    const Tensor one = Tensor::from({1, 1, shape_.k_dim}, std::span(x, static_cast<size_t>(shape_.k_dim)));
    const Tensor out = tensor::rope(one, std::array{place}, rope_);
    return {out.values().begin(), out.values().end()};
  }

  const attention::AttentionShape& shape_;
  const tensor::RopeTable& rope_;
  const Prompt& prompt_;
  const Projected& values_;
};

Result<Projected> project(Run& run, engine::Session& session, const Prompt& prompt, int layer) {
  Projected out;
  const auto keep = [&](const char* site, std::vector<float>& to) {
    return session.hooks().scoped(fmt::format("blocks.{}.attn.{}", layer, site), [&to](const std::string&, Tensor& x) {
      to.insert(to.end(), x.values().begin(), x.values().end());
    });
  };
  FOVEA_ASSIGN_OR_RETURN(const auto q, keep("hook_q", out.q));
  FOVEA_ASSIGN_OR_RETURN(const auto k, keep("hook_k", out.k));
  FOVEA_ASSIGN_OR_RETURN(const auto v, keep("hook_v", out.v));
  FOVEA_ASSIGN_OR_RETURN(const auto z, keep("hook_z", out.z));
  const engine::SequenceId sequence = session.begin();
  session.set_spans(sequence, prompt.segments);
  engine::PrefillOptions options;
  options.cancel = run.cancel();
  FOVEA_RETURN_IF_ERROR(session.prefill(sequence, prompt.tokens, options));
  session.remove(sequence);
  return out;
}

}  // namespace

Result<Literal> literal_turns(Run& run) {
  const attention::ModelShape& model = run.model()->shape();
  FOVEA_ASSIGN_OR_RETURN(
      const auto session,
      engine::Session::create(run.model(), {.numerics = kernels::Numerics::kExact, .attention = "pine"}));
  const Asked asked = draw_documents(3, run.number("facts"), run.seed());
  FOVEA_ASSIGN_OR_RETURN(const Prompt prompt, make_prompt(run, asked, {0, 1, 2}));
  Literal out;
  for (const int layer : std::set<int>{0, model.n_layers / 2, model.n_layers - 1}) {
    const attention::AttentionShape site = model.site(layer);
    if (site.rope == attention::AttentionShape::kNoRope)
      return make_error(ErrorCode::kUnsupported, "pine: layer {} of this model turns no keys", layer);
    FOVEA_ASSIGN_OR_RETURN(const Projected values, project(run, *session, prompt, layer));
    const LiteralLayer twin(site, run.model()->config().ropes[static_cast<size_t>(site.rope)], prompt, values);
    // The last row, one behind the segments, and two of each segment.
    std::vector<int32_t> rows = {static_cast<int32_t>(prompt.tokens.size()) - 1, prompt.segments.back().end};
    for (const attention::Span& span : prompt.segments)
      rows.insert(rows.end(), {span.begin, (span.begin + span.end) / 2});
    for (const int32_t row : rows) {
      for (const int head : std::set<int>{0, site.n_heads / 2, site.n_heads - 1}) {
        const std::vector<size_t> order = twin.order(row, head);
        if (order.empty()) ++out.near_ties;
        if (order.empty()) continue;
        ++out.rows;
        out.worst = std::max(out.worst, twin.apart(row, head, twin.z(row, head, order)));
      }
    }
  }
  return out;
}

}  // namespace fovea::papers::pine
