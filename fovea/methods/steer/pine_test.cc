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
namespace pine_test {

using ::testing::HasSubstr;

// A text of prefix, segments and suffix, with a token of its own at each place.
struct Text {
  int32_t prefix = 3;
  std::vector<int32_t> sizes = {5, 9, 4};
  int32_t suffix = 6;

  int32_t end() const { return std::accumulate(sizes.begin(), sizes.end(), prefix); }
  int32_t n() const { return end() + suffix; }
  int32_t begin(size_t segment) const {
    return std::accumulate(sizes.begin(), sizes.begin() + static_cast<int64_t>(segment), prefix);
  }
  // Of a position; that of no segment is the number of segments.
  size_t segment(int32_t position) const {
    for (size_t s = 0; s < sizes.size(); ++s) {
      if (position >= begin(s) && position < begin(s) + sizes[s]) return s;
    }
    return sizes.size();
  }
  std::vector<Span> spans() const {
    std::vector<Span> out;
    for (size_t s = 0; s < sizes.size(); ++s)
      out.push_back({"segment " + std::to_string(s), begin(s), begin(s) + sizes[s]});
    return out;
  }
};

class Layer {
 public:
  explicit Layer(const std::string& spec, Text text = {}) : one(spec), text_(std::move(text)) {}

  std::vector<float> feed(int32_t begin, int32_t end, bool decoding = false) {
    Batch batch;
    std::vector<int32_t> tokens(static_cast<size_t>(end - begin));
    std::iota(tokens.begin(), tokens.end(), 10 + begin);
    if (same_tokens) std::fill(tokens.begin(), tokens.end(), 7);
    batch.add(tokens, begin, 0, decoding ? Phase::kDecode : Phase::kPrompt);
    const auto [q, k, v] = one.inputs(batch, 0);
    const std::vector<Span> spans = text_.spans();
    const std::vector<SequenceContext> contexts = {{.sequence = 0, .pipeline = &one.pipeline, .spans = spans}};
    Attend attend({.model = one.shape(),
                   .ropes = {&one.rope(), 1},
                   .batch = batch,
                   .cache = &one.cache,
                   .pipeline = &one.pipeline,
                   .hooks = &one.hooks,
                   .observers = one.observers,
                   .sequences = contexts});
    const tensor::Tensor x = one.stream(batch, 0), z = attend(0, {q, k, v, x, x});
    return {z.values().begin(), z.values().end()};
  }

  OneLayer one;
  bool same_tokens = false;

 private:
  Text text_;
};

// In plain loops, with every key turned to the place that the card gives it.
class Twin {
 public:
  Twin(const OneLayer& layer, Text text, bool normalise = true) : text_(std::move(text)), normalise_(normalise) {
    Batch batch;
    batch.add(std::vector<int32_t>(static_cast<size_t>(text_.n()), 0), 0, 0);
    qkv_ = layer.inputs(batch, 0);
    rope_ = &layer.rope();
  }

  // Segments as rows of a segment, or one row behind them all, see them: the nearest first.
  std::vector<size_t> order(int32_t row, int head) const {
    const size_t own = text_.segment(row), m = text_.sizes.size();
    std::vector<double> importance(m, 0.0);
    const int32_t first = own < m ? text_.begin(own) : row, end = own < m ? first + text_.sizes[own] : row + 1;
    for (int32_t i = first; i < end; ++i) {
      double sum = 0;
      std::vector<double> mass(m, 0.0);
      for (int32_t j = text_.prefix; j < text_.end(); ++j) {
        if (text_.segment(j) == own) continue;
        const double weight = std::exp(dot(qkv_[0], i, head, i, qkv_[1], j, head / 2, j, /*turned=*/false) / 4);
        sum += weight;
        mass[text_.segment(j)] += weight;
      }
      for (size_t s = 0; s < m; ++s) importance[s] += mass[s] / sum / (normalise_ ? text_.sizes[s] : 1);
    }
    std::vector<size_t> out(m);
    std::iota(out.begin(), out.end(), size_t{0});
    std::sort(out.begin(), out.end(),
              [&](size_t a, size_t b) { return a == own || (b != own && importance[a] > importance[b]); });
    return out;
  }

  std::vector<double> z(int32_t row, int head) const {
    const size_t m = text_.sizes.size(), own = text_.segment(row);
    std::vector<int32_t> place(static_cast<size_t>(text_.n()));
    std::iota(place.begin(), place.end(), 0);
    if (row >= text_.prefix) {
      int32_t end = text_.end();
      for (const size_t s : order(row, head)) {
        for (int32_t j = 0; j < text_.sizes[s]; ++j)
          place[static_cast<size_t>(text_.begin(s) + j)] = end - text_.sizes[s] + j;
        end -= text_.sizes[s];
      }
    }
    std::vector<double> p(place.size(), 0.0), out(16, 0.0);
    double sum = 0;
    for (int32_t j = 0; j < text_.n(); ++j) {
      const int32_t at = place[static_cast<size_t>(j)], mine = place[static_cast<size_t>(row)];
      if (at > mine || (row < text_.prefix && j > row) || (own < m && j >= text_.end())) continue;
      sum += p[static_cast<size_t>(j)] =
          std::exp(dot(qkv_[0], row, head, mine, qkv_[1], j, head / 2, at, /*turned=*/true) / 4);
    }
    for (int32_t j = 0; j < text_.n(); ++j) {
      for (size_t d = 0; d < out.size(); ++d)
        out[d] += p[static_cast<size_t>(j)] / sum * static_cast<double>(at(qkv_[2], j, head / 2)[d]);
    }
    return out;
  }

 private:
  static const float* at(const tensor::Tensor& x, int32_t row, int head) {
    return x.data() + (row * x.dim(1) + head) * x.dim(2);
  }
  double dot(const tensor::Tensor& q, int32_t i, int q_head, int32_t q_at, const tensor::Tensor& k, int32_t j,
             int k_head, int32_t k_at, bool turned) const {
    std::array<tensor::Tensor, 2> both = {tensor::Tensor::empty({1, 1, 16}), tensor::Tensor::empty({1, 1, 16})};
    std::copy_n(at(q, i, q_head), 16, both[0].data());
    std::copy_n(at(k, j, k_head), 16, both[1].data());
    if (turned)
      both = {tensor::rope(both[0], std::array{q_at}, *rope_), tensor::rope(both[1], std::array{k_at}, *rope_)};
    double out = 0;
    for (int d = 0; d < 16; ++d) out += static_cast<double>(both[0].data()[d]) * static_cast<double>(both[1].data()[d]);
    return out;
  }

  Text text_;
  bool normalise_;
  std::array<tensor::Tensor, 3> qkv_;
  const tensor::RopeTable* rope_;
};

TEST(Pine, EveryRowReadsTheSegmentsAtThePlacesOfItsOwnOrder) {
  const Text text;
  Layer layer("pine");
  const std::vector<float> z = layer.feed(0, text.n());
  const Twin twin(layer.one, text);
  for (int32_t row = 0; row < text.n(); ++row) {
    for (int head = 0; head < 4; ++head) layer.one.expect_head(z, row, head, twin.z(row, head), 3e-5);
  }
  std::vector<std::vector<size_t>> orders;
  for (int32_t row = text.end(); row < text.n(); ++row) {
    for (int head = 0; head < 4; ++head) orders.push_back(twin.order(row, head));
  }
  EXPECT_NE(std::adjacent_find(orders.begin(), orders.end(), std::not_equal_to<>()), orders.end())
      << "every row has the same order: the test shows little";
}

TEST(Pine, LongSegmentsWinWhereImportanceIsNotNormalised) {
  const Text text;
  Layer layer("pine:normalise=off");
  const std::vector<float> z = layer.feed(0, text.n());
  const Twin sum(layer.one, text, false), mean(layer.one, text);
  int longest_first[] = {0, 0};
  for (int32_t row = text.prefix; row < text.n(); ++row) {
    for (int head = 0; head < 4; ++head) {
      layer.one.expect_head(z, row, head, sum.z(row, head), 3e-5);
      if (row < text.end()) continue;
      longest_first[0] += mean.order(row, head)[0] == 1;
      longest_first[1] += sum.order(row, head)[0] == 1;
    }
  }
  EXPECT_GT(longest_first[1], longest_first[0]);
}

TEST(Pine, ReadsMoreSegmentsThanAPageHoldsKeys) {
  const Text text{.prefix = 2, .sizes = {70, 33, 5, 90}, .suffix = 3};
  Layer layer("pine", text);
  const std::vector<float> z = layer.feed(0, text.n());
  const Twin twin(layer.one, text);
  for (const int32_t row : {0, 40, 71, 72, 104, 107, 150, 199, 200, 202}) {
    for (int head = 0; head < 4; ++head) layer.one.expect_head(z, row, head, twin.z(row, head), 5e-5);
  }
}

TEST(Pine, OrdersAgainForEveryGeneratedToken) {
  const Text text;
  Layer whole("pine"), steps("pine");
  const std::vector<float> z = whole.feed(0, text.n());
  steps.feed(0, 1);
  steps.feed(1, text.end());
  for (int32_t row = text.end(); row < text.n(); ++row) {
    const std::vector<float> step = steps.feed(row, row + 1, /*decoding=*/true);
    for (int head = 0; head < 4; ++head) EXPECT_EQ(steps.one.of_head(step, 0, head), whole.one.of_head(z, row, head));
  }
}

TEST(Pine, OneSegmentIsDense) {
  const Text text{.sizes = {12}};
  Layer layer("pine", text), dense("dense", text);
  EXPECT_EQ(layer.feed(0, text.n()), dense.feed(0, text.n()));
}

TEST(Pine, HeadsThatAreNotChosenStayAsTheyAre) {
  const Text text;
  Layer layer("pine:heads=0.1", text), dense("dense", text), all("pine", text);
  const std::vector<float> z = layer.feed(0, text.n()), plain = dense.feed(0, text.n()), acting = all.feed(0, text.n());
  for (int32_t row = 0; row < text.n(); ++row) {
    for (int head = 0; head < 4; ++head) {
      const std::vector<float> as =
          head == 1 ? all.one.of_head(acting, row, head) : dense.one.of_head(plain, row, head);
      layer.one.expect_head(z, row, head, {as.begin(), as.end()}, 3e-5);
    }
  }
}

// Sums what one head gives to the keys of each of two segments.
class Mass final : public RowObserver {
 public:
  explicit Mass(const Text& text) : text_(text) {}
  bool wants(int, int, bool) const override { return true; }
  void see(const RowView& row, std::span<const float> pattern) override {
    if (row.q_pos < text_.end()) return;
    double of[2] = {0, 0};
    for (size_t i = 0; i < pattern.size(); ++i) {
      if (row.key_positions[i] == kernels::kNoPosition) continue;
      if (const size_t s = text_.segment(row.key_positions[i]); s < 2) of[s] += static_cast<double>(pattern[i]);
    }
    worst = std::max(worst, std::abs(of[0] - of[1]));
    least = std::min(least, of[0]);
  }
  double worst = 0, least = 1;

 private:
  const Text& text_;
};

TEST(Pine, CopiesOfASegmentHaveTheSameAttention) {
  const Text text{.sizes = {6, 6, 5}};
  for (const bool reordered : {true, false}) {
    Layer layer(reordered ? "pine" : "pine:order=prompt", text);
    layer.same_tokens = true;
    layer.one.content = [](int32_t position) { return position >= 9 && position < 15 ? position - 6 : position; };
    Mass mass(text);
    layer.one.observers.push_back(&mass);
    layer.feed(0, text.n());
    if (reordered) {
      EXPECT_LT(mass.worst, 1e-5);
    } else {
      EXPECT_GT(mass.worst, 1e-2) << "their places do not show: the test shows little";
    }
  }
}

TEST(Pine, SaysWhichSpansItLacks) {
  const auto parsed = Pipeline::parse("pine", OneLayer::small_shape());
  ASSERT_TRUE(parsed.has_value());
  const auto none = parsed->read_together({});
  ASSERT_FALSE(none.has_value());
  EXPECT_THAT(none.error().message, HasSubstr("pine: the text has no segments"));
  const std::vector<Span> apart = {{"segment 0", 2, 5}, {"segment 1", 6, 9}};
  const auto gap = parsed->read_together(apart);
  ASSERT_FALSE(gap.has_value());
  EXPECT_THAT(gap.error().message, HasSubstr("segment 1 has tokens 6 to 9"));
}

TEST(Pine, RefusesMethodsThatDropKeysAndNamesBoth) {
  const auto parsed = Pipeline::parse("pine,snapkv", OneLayer::small_shape());
  ASSERT_FALSE(parsed.has_value());
  EXPECT_THAT(parsed.error().message, HasSubstr("pine and snapkv"));
}

}  // namespace pine_test
}  // namespace fovea::attention
