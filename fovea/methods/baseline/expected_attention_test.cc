#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "fovea/attention/testing/one_layer.h"

namespace fovea::attention {
namespace expected_attention_test {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr int kFuture = 8;

void read(OneLayer& layer, int begin, int end, Phase phase) {
  Batch batch;
  batch.add(std::vector<int32_t>(static_cast<size_t>(end - begin), 0), begin, 0, phase);
  layer.run(batch, 0);
}

std::vector<int32_t> range(int begin, int end) {
  std::vector<int32_t> out(static_cast<size_t>(end - begin));
  std::iota(out.begin(), out.end(), begin);
  return out;
}

// q, k and v of layer 0 at these positions.
std::array<tensor::Tensor, 3> inputs(const OneLayer& layer, const std::vector<int32_t>& positions) {
  Batch batch;
  for (const int32_t position : positions) batch.add(std::vector<int32_t>{0}, position, 0);
  return layer.inputs(batch, 0);
}

// In plain loops, of a text of n_text tokens: each drawn query at the mean of its places in the rows to come is a
// point; mean and variance of the points along a key say what exp(q.k) is on average. -> the n_kept highest of `live`.
std::vector<int32_t> expected(const OneLayer& layer, int kv, int n_text, const std::vector<int32_t>& drawn,
                              const std::vector<int32_t>& live, size_t n_kept, bool covariance, bool value_norm) {
  const int n_heads = layer.shape().n_heads, n_kv_heads = layer.shape().n_kv_heads, dim = layer.shape().head_dim;
  const double scale = static_cast<double>(layer.shape().site(0).scale);
  const tensor::Tensor q = inputs(layer, drawn)[0];
  std::vector<double> points(q.values().size(), 0.0);
  for (int i = 0; i < kFuture; ++i) {
    const tensor::Tensor turned = tensor::rope(q, std::vector<int32_t>(drawn.size(), n_text + i), layer.rope());
    for (size_t j = 0; j < points.size(); ++j) points[j] += static_cast<double>(turned.values()[j]) / kFuture;
  }
  const tensor::Tensor k = tensor::rope(inputs(layer, live)[1], live, layer.rope()), v = inputs(layer, live)[2];
  std::vector<double> scores(live.size(), 0.0);
  for (int head = 2 * kv; head < 2 * kv + 2; ++head) {
    std::vector<double> weights(live.size());
    double sum = 0;
    for (size_t key = 0; key < live.size(); ++key) {
      double mean = 0, square = 0;
      for (size_t row = 0; row < drawn.size(); ++row) {
        double dot = 0;
        for (int d = 0; d < dim; ++d)
          dot += points[(row * static_cast<size_t>(n_heads) + static_cast<size_t>(head)) * static_cast<size_t>(dim) +
                        static_cast<size_t>(d)] *
                 static_cast<double>(k.data()[(static_cast<int>(key) * n_kv_heads + kv) * dim + d]);
        mean += dot * scale / static_cast<double>(drawn.size());
        square += dot * scale * dot * scale / static_cast<double>(drawn.size());
      }
      sum += weights[key] = std::exp(mean + (covariance ? (square - mean * mean) / 2 : 0.0));
    }
    for (size_t key = 0; key < live.size(); ++key) scores[key] += weights[key] / sum;
  }
  for (size_t key = 0; key < live.size() && value_norm; ++key) {
    double square = 0;
    for (int d = 0; d < dim; ++d)
      square += std::pow(static_cast<double>(v.data()[(static_cast<int>(key) * n_kv_heads + kv) * dim + d]), 2);
    scores[key] *= std::sqrt(square);
  }
  std::vector<size_t> order(live.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  std::vector<int32_t> kept;
  for (size_t i = 0; i < n_kept; ++i) kept.push_back(live[order[i]]);
  std::sort(kept.begin(), kept.end());
  return kept;
}

TEST(ExpectedAttention, KeepsWhatRowsToComeAreExpectedToLookAt) {
  std::vector<std::vector<int32_t>> all;
  for (const bool covariance : {true, false}) {
    for (const bool value_norm : {true, false}) {
      const std::string knobs =
          std::string(":covariance=") + (covariance ? "on" : "off") + ":value_norm=" + (value_norm ? "on" : "off");
      OneLayer layer("expected-attention:keep=0.3:n_sink=0:n_future=8" + knobs);
      read(layer, 0, 70, Phase::kPromptEnd);
      for (int kv = 0; kv < 2; ++kv) {
        EXPECT_THAT(layer.cache.positions(0, 0, kv),
                    ElementsAreArray(expected(layer, kv, 70, range(0, 70), range(0, 70), 21, covariance, value_norm)))
            << knobs;
      }
      all.push_back(layer.cache.positions(0, 0, 0));
    }
  }
  std::sort(all.begin(), all.end());
  EXPECT_EQ(std::unique(all.begin(), all.end()), all.end()) << "a knob changes nothing here";
}

TEST(ExpectedAttention, SinksStayAndAreNoDrawsOfQueries) {
  OneLayer layer("expected-attention:budget=20:n_sink=5:n_future=8");
  read(layer, 0, 70, Phase::kPromptEnd);
  for (int kv = 0; kv < 2; ++kv) {
    std::vector<int32_t> kept = expected(layer, kv, 70, range(5, 70), range(5, 70), 15, true, true);
    kept.insert(kept.begin(), {0, 1, 2, 3, 4});
    EXPECT_THAT(layer.cache.positions(0, 0, kv), ElementsAreArray(kept));
  }
}

TEST(ExpectedAttention, WaitsForTheEndOfThePrompt) {
  OneLayer whole("expected-attention:budget=20:n_future=8"), chunks("expected-attention:budget=20:n_future=8");
  read(whole, 0, 70, Phase::kPromptEnd);
  read(chunks, 0, 3, Phase::kPrompt);  // sinks only
  read(chunks, 3, 67, Phase::kPrompt);
  EXPECT_THAT(chunks.cache.positions(0, 0, 0), SizeIs(67));
  read(chunks, 67, 70, Phase::kPromptEnd);
  for (int kv = 0; kv < 2; ++kv) EXPECT_EQ(chunks.cache.positions(0, 0, kv), whole.cache.positions(0, 0, kv));
  EXPECT_THAT(whole.cache.positions(0, 0, 0), SizeIs(20));
}

TEST(ExpectedAttention, ASecondPromptAddsItsQueriesAndCountsTheWholeText) {
  OneLayer layer("expected-attention:keep=0.5:n_sink=0:n_future=8");
  read(layer, 0, 40, Phase::kPromptEnd);
  std::vector<std::vector<int32_t>> live = {layer.cache.positions(0, 0, 0), layer.cache.positions(0, 0, 1)};
  EXPECT_THAT(live[0], SizeIs(20));
  read(layer, 40, 50, Phase::kDecode);  // what is generated stays, and draws nothing
  EXPECT_THAT(layer.cache.positions(0, 0, 1), SizeIs(30));
  read(layer, 50, 70, Phase::kPromptEnd);
  std::vector<int32_t> drawn = range(0, 40), last = range(50, 70);
  drawn.insert(drawn.end(), last.begin(), last.end());
  for (int kv = 0; kv < 2; ++kv) {
    std::vector<int32_t>& keys = live[static_cast<size_t>(kv)];
    for (int32_t key = 40; key < 70; ++key) keys.push_back(key);
    EXPECT_THAT(layer.cache.positions(0, 0, kv),
                ElementsAreArray(expected(layer, kv, 70, drawn, keys, 35, true, true)));
  }
}

// So few queries have a mean that is far from zero.
TEST(ExpectedAttention, TheirMeanIsNoPartOfTheirVariance) {
  OneLayer layer("expected-attention:budget=20:n_sink=0:n_future=8");
  read(layer, 0, 3, Phase::kPromptEnd);
  read(layer, 3, 67, Phase::kDecode);
  read(layer, 67, 70, Phase::kPromptEnd);
  for (int kv = 0; kv < 2; ++kv) {
    EXPECT_THAT(layer.cache.positions(0, 0, kv),
                ElementsAreArray(expected(layer, kv, 70, {0, 1, 2, 67, 68, 69}, range(0, 70), 20, true, true)));
  }
}

TEST(ExpectedAttention, KeepsSinksWhateverTheShareAndAllThatFits) {
  OneLayer none("expected-attention:keep=0:n_sink=3"), all("expected-attention:budget=50"),
      dense("expected-attention:keep=1"), sinks("expected-attention:keep=0:n_sink=64");
  for (OneLayer* layer : {&none, &all, &dense, &sinks}) read(*layer, 0, 40, Phase::kPromptEnd);
  EXPECT_THAT(none.cache.positions(0, 0, 0), ElementsAre(0, 1, 2));
  for (const OneLayer* layer : {&all, &dense, &sinks}) EXPECT_THAT(layer->cache.positions(0, 0, 0), SizeIs(40));
}

TEST(ExpectedAttention, AverageOverNoPositionsIsRefusedByName) {
  const auto wrong = Pipeline::parse("expected-attention:n_future=0", OneLayer::small_shape());
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(wrong.error().code, ErrorCode::kUsage);
  EXPECT_THAT(wrong.error().message, HasSubstr("n_future"));
}

}  // namespace expected_attention_test
}  // namespace fovea::attention
