#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>

#include "fovea/attention/attend.h"
#include "fovea/base/random.h"
#include "papers/act-attention-calibration/measure.h"

namespace fovea::papers::act {
namespace {

using attention::Phase;
using tensor::Tensor;

constexpr int kTokens = 16;  // as many as a head is wide: query i is the i-th unit vector, and value j the j-th
using Scores = std::array<std::array<double, kTokens>, kTokens>;
using Row = std::vector<double>;

class ShownLayer {
 public:
  ShownLayer(const std::string& spec, const Scores& scores)
      : scores_(scores), shape_(shape()), cache_(attention::CacheShape::of(shape_, kernels::KvType::kF32)) {
    auto parsed = attention::Pipeline::parse(spec, shape_);
    FOVEA_CHECK(parsed.has_value(), "act-attention-calibration: {}", parsed.error().message);
    pipeline_ = std::move(*parsed);
  }
  // Weights of the rows [begin, end).
  std::vector<Row> read(int32_t begin, int32_t end, Phase phase) {
    attention::Batch batch;
    batch.add(std::vector<int32_t>(static_cast<size_t>(end - begin), 0), begin, 0, phase);
    const int64_t n = batch.size();
    attention::AttendInput in{Tensor::zeros({n, 1, kTokens}), Tensor::zeros({n, 1, kTokens}),
                              Tensor::zeros({n, 1, kTokens})};
    for (int64_t i = 0; i < n; ++i) {
      const int64_t position = begin + i;
      in.q.data()[i * kTokens + position] = 1;
      in.v.data()[i * kTokens + position] = 1;
      for (int64_t row = 0; row < kTokens; ++row)
        in.k.data()[i * kTokens + row] =
            static_cast<float>(scores_[static_cast<size_t>(row)][static_cast<size_t>(position)] / shape_.site(0).scale);
    }
    attention::Attend attend({.model = shape_, .ropes = {}, .batch = batch, .cache = &cache_, .pipeline = &pipeline_});
    const Tensor z = attend(0, in);
    std::vector<Row> out;
    for (int64_t i = 0; i < n; ++i) out.emplace_back(z.data() + i * kTokens, z.data() + i * kTokens + begin + i + 1);
    return out;
  }

 private:
  static attention::ModelShape shape() {
    attention::ModelShape out{
        .n_layers = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = kTokens, .d_model = kTokens, .n_ctx = 1 << 10};
    attention::AttentionShape site = out.site(0);
    site.rope = attention::AttentionShape::kNoRope;
    out.attention = {site};
    return out;
  }

  const Scores& scores_;
  attention::ModelShape shape_;
  attention::KvCache cache_;
  attention::Pipeline pipeline_;
};

// Two keys behind the first are looked at by all.
Scores drawn_scores() {
  Rng random(3);
  Scores out;
  for (auto& row : out) {
    for (double& score : row) score = random.normal();
    row[4] += 2, row[7] += 1.5;
  }
  return out;
}

Row softmax_of(const Scores& scores, size_t i) {
  Row out(i + 1);
  double sum = 0;
  for (size_t j = 0; j <= i; ++j) sum += out[j] = std::exp(scores[i][j]);
  for (double& weight : out) weight /= sum;
  return out;
}

constexpr double kBeta = 0.4, kLimit = 0.15;  // of the drawn rows
const char* const kSpec = "act-attention-calibration:skip=0:beta=0.4:threshold=0.15";

// A' of row i by the map of rows 0 to `last`.
Row explicit_form(const Scores& scores, size_t i, size_t last, bool& has_sinks) {
  std::vector<double> means(last + 1, 0.0);
  for (size_t row = 0; row <= last; ++row) {
    const Row weights = softmax_of(scores, row);
    for (size_t t = 0; t <= row; ++t) means[t] += weights[t] / static_cast<double>(last + 1 - t);
  }
  const Row plain = softmax_of(scores, i);
  double lost = 0, others = 0;
  for (size_t t = 0; t <= i; ++t) (t > 0 && means[t] > kLimit ? lost : others) += plain[t];
  has_sinks = lost > 0;
  if (others < 1e-6) return plain;
  Row out(plain.size());
  for (size_t t = 0; t <= i; ++t) {
    const bool sink = t > 0 && means[t] > kLimit;
    out[t] = sink ? kBeta * plain[t] : plain[t] + (1 - kBeta) * lost * plain[t] / others;
  }
  return out;
}

void compare(const Row& row, const Row& expected, Rows& out) {
  for (size_t t = 0; t < row.size(); ++t) {
    out.worst = std::max(out.worst, std::abs(row[t] - expected[t]));
    out.least = std::min(out.least, row[t]);
  }
  out.sums = std::max(out.sums, std::abs(std::accumulate(row.begin(), row.end(), 0.0) - 1));
}

}  // namespace

std::vector<double> row_by_hand() {
  Scores scores = {};
  const std::array<double, 3> last = {0.5, 0.3, 0.2};
  scores[1][0] = std::log(0.625), scores[1][1] = std::log(0.375);  // the second key's mean is .34, the third's .2
  for (size_t j = 0; j < last.size(); ++j) scores[2][j] = std::log(last[j]);
  ShownLayer layer("act-attention-calibration:skip=0:beta=0.4:threshold=0.25", scores);
  return layer.read(0, 3, Phase::kPromptEnd)[2];
}

Rows whole_rows() {
  const Scores scores = drawn_scores();
  ShownLayer layer(kSpec, scores);
  Rows out;
  const std::vector<Row> rows = layer.read(0, kTokens, Phase::kPromptEnd);
  for (size_t i = 0; i < rows.size(); ++i) {
    bool has_sinks = false;
    compare(rows[i], explicit_form(scores, i, kTokens - 1, has_sinks), out);
    out.with_sinks += has_sinks;
  }
  return out;
}

Rows decoded_rows() {
  constexpr int32_t kPrompt = 6;
  const Scores scores = drawn_scores();
  ShownLayer layer(kSpec, scores);
  layer.read(0, kPrompt, Phase::kPromptEnd);
  Rows out;
  for (int32_t i = kPrompt; i < kTokens; ++i) {
    bool has_sinks = false;
    const auto at = static_cast<size_t>(i);
    compare(layer.read(i, i + 1, Phase::kDecode)[0], explicit_form(scores, at, at, has_sinks), out);
    out.with_sinks += has_sinks;
  }
  return out;
}

}  // namespace fovea::papers::act
