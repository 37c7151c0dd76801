#include "fovea/probe/measures/influence.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <set>

#include "fovea/attention/pipeline.h"
#include "fovea/base/testing/sanitized.h"
#include "fovea/engine/session.h"
#include "fovea/models/testing/tiny_model.h"
#include "fovea/probe/measures/moa_plan.h"

namespace fovea::probe {
namespace influence_test {

using ::testing::HasSubstr;

std::shared_ptr<const engine::Model> tiny() {
  return engine::Model::load(source_dir() + "/tests/data/tiny-llama.gguf").value();
}
std::vector<int32_t> some_tokens(const engine::Model& model, int n) {
  std::vector<int32_t> out;
  for (int i = 0; i < n; ++i) out.push_back(3 + (i * i + 7 * i) % (model.shape().vocab_size - 3));
  return out;
}

// One key is hidden from one row of a head; the row is renormalised.
class HiddenKey final : public attention::Method {
 public:
  static constexpr attention::MethodInfo kInfo{.name = "test-hidden-key",
                                               .title = "Hidden key",
                                               .paper = "none",
                                               .stages = attention::kScore,
                                               .summary = "for tests"};
  const attention::MethodInfo& info() const override { return kInfo; }
  void visit_knobs(attention::KnobVisitor& knobs) override {
    knobs.add("layer", layer_, {.min = -1, .help = "which"});
    knobs.add("head", head_, {.min = -1, .help = "which"});
    knobs.add("row", row_, {.min = -1, .help = "which"});
    knobs.add("key", key_, {.min = -1, .help = "which"});
  }
  bool edits_rows(int layer, int head, bool) const override { return layer == layer_ && head == head_; }
  void edit_scores(const attention::RowView& row, std::span<float> scores) const override {
    for (size_t i = 0; i < scores.size(); ++i) {
      if (row.q_pos == row_ && row.key_positions[i] == key_) scores[i] = -std::numeric_limits<float>::infinity();
    }
  }

 private:
  int layer_ = -1, head_ = -1, row_ = -1, key_ = -1;
};
FOVEA_REGISTER_METHOD(HiddenKey);

// The mean loss of the tokens from n_prompt on, through the cache, in double.
double loss_with(const models::TinyModel& model, const attention::ModelShape& shape, std::span<const int32_t> tokens,
                 size_t n_prompt, const std::string& spec) {
  tensor::Exec exec{.numerics = tensor::Numerics::kExact};
  tensor::ExecScope scope(exec);
  auto pipeline = attention::Pipeline::parse(spec, shape).value();
  attention::KvCache cache(attention::CacheShape::of(shape, kernels::KvType::kF32));
  attention::Hooks hooks(model.family().hooks());
  attention::Batch batch;
  batch.add(tokens, 0, 0);
  for (size_t i = n_prompt; i < tokens.size(); ++i) batch.logit_rows.push_back(static_cast<int32_t>(i) - 1);
  const tensor::Tensor logits = models::forward(
      model.family(),
      {.model = shape, .ropes = model.family().config().ropes, .batch = batch, .cache = &cache, .pipeline = &pipeline},
      hooks);
  double sum = 0;
  for (int64_t row = 0; row < logits.dim(0); ++row) {
    const float* x = logits.data() + row * logits.dim(1);
    double whole = 0;
    for (int64_t v = 0; v < logits.dim(1); ++v) whole += std::exp(static_cast<double>(x[v]) - x[0]);
    sum += std::log(whole) + x[0] - x[tokens[n_prompt + static_cast<size_t>(row)]];
  }
  return sum / static_cast<double>(logits.dim(0));
}

TEST(Influence, IsWhatHidingAKeyDoesToTheLossToFirstOrder) {
  const auto model = tiny();
  const models::TinyModel twin("tiny-llama");
  const std::vector<int32_t> tokens = some_tokens(*model, 24);
  constexpr size_t kPrompt = 18;
  struct One {
    int layer, head, row, key;
    double e;
  };
  std::vector<One> entries;
  std::mutex guard;
  const int group = model->shape().group();
  const auto see = [&](int layer, int kv, int64_t row, std::span<const float> e) {
    const std::lock_guard lock(guard);
    for (int g = 0; g < group; ++g) {
      for (int64_t key = 0; key <= row; ++key)
        entries.push_back({layer, kv * group + g, static_cast<int>(row), static_cast<int>(key),
                           e[static_cast<size_t>(g * (row + 1) + key)]});
    }
  };
  const auto loss = visit_influence(*model, tokens, kPrompt, see);
  ASSERT_TRUE(loss.has_value()) << loss.error().message;
  EXPECT_NEAR(*loss, loss_with(twin, model->shape(), tokens, kPrompt, "dense"), 1e-4);
  // Some 60 of the entries behind the tenth that matter most: there A is large, and what is dropped, of the order of
  // A^2, is not small.
  std::sort(entries.begin(), entries.end(), [](const One& a, const One& b) { return std::abs(a.e) > std::abs(b.e); });
  std::erase_if(entries, [](const One& one) { return one.row == 0; });
  double xy = 0, xx = 0, yy = 0;
  size_t n = 0;
  for (size_t i = entries.size() / 10; i < entries.size() / 2; i += entries.size() / 150, ++n) {
    const One& one = entries[i];
    const std::string spec =
        fmt::format("test-hidden-key:layer={}:head={}:row={}:key={}", one.layer, one.head, one.row, one.key);
    const double change = loss_with(twin, model->shape(), tokens, kPrompt, spec) - *loss;
    xy += one.e * change, xx += one.e * one.e, yy += change * change;
  }
  EXPECT_GE(n, 50u);
  EXPECT_GT(xy / std::sqrt(xx * yy), 0.95);  // correlation through the origin
  EXPECT_NEAR(xy / xx, 1, 0.15);             // slope
}

TEST(Influence, OfARowWeighedByWhatIsLeftIsZero) {
  // sum_j (1 - A_ij) E_ij = -sum_j A_ij g_ij + sum_j A_ij sum_n A_in g_in = 0
  const auto model = tiny();
  const std::vector<int32_t> tokens = some_tokens(*model, 40);
  const attention::ModelShape& shape = model->shape();
  // The pattern, of the first layer, by another way.
  struct Patterns final : attention::RowObserver {
    std::map<std::pair<int, int>, std::vector<float>> rows;  // of a head and a row
    bool wants(int layer, int, bool) const override { return layer == 0; }
    void see(const attention::RowView& row, std::span<const float> pattern) override {
      const std::lock_guard lock(guard);
      rows[{row.head, row.q_pos}].assign(pattern.begin(), pattern.end());
    }
    std::mutex guard;
  } patterns;
  const auto session = engine::Session::create(model, {.numerics = kernels::Numerics::kExact}).value();
  session->observe(&patterns);
  ASSERT_TRUE(session->prefill(session->begin(), tokens).has_value());
  double largest = 0, worst = 0;
  std::mutex guard;
  const auto see = [&](int layer, int kv, int64_t row, std::span<const float> e) {
    if (layer != 0 || row == 0) return;
    const std::lock_guard lock(guard);
    for (int g = 0; g < shape.group(); ++g) {
      const std::vector<float>& pattern = patterns.rows[{kv * shape.group() + g, static_cast<int>(row)}];
      double sum = 0;
      for (int64_t j = 0; j <= row; ++j) {
        const double one = e[static_cast<size_t>(g * (row + 1) + j)];
        sum += (1 - static_cast<double>(pattern[static_cast<size_t>(j)])) * one;
        largest = std::max(largest, std::abs(one));
      }
      worst = std::max(worst, std::abs(sum));
    }
  };
  ASSERT_TRUE(visit_influence(*model, tokens, 30, see).has_value());
  EXPECT_GT(largest, 0);
  EXPECT_LT(worst, 1e-4 * largest);
}

TEST(Influence, BlocksHoldWhatLiesThatFarBehindButForTheFirst) {
  const auto model = tiny();
  const std::vector<int32_t> tokens = some_tokens(*model, 21);
  const attention::ModelShape& shape = model->shape();
  constexpr int kBlock = 4;
  std::vector<std::vector<double>> expected(static_cast<size_t>(shape.n_layers * shape.n_kv_heads),
                                            std::vector<double>(6, 0.0));
  std::mutex guard;
  const auto see = [&](int layer, int kv, int64_t row, std::span<const float> e) {
    const std::lock_guard lock(guard);
    for (int64_t j = kBlock; j <= row; ++j) {
      float most = 0;
      for (int g = 0; g < shape.group(); ++g)
        most = std::max(most, std::abs(e[static_cast<size_t>(g * (row + 1) + j)]));
      expected[static_cast<size_t>(layer * shape.n_kv_heads + kv)][static_cast<size_t>(row / kBlock - j / kBlock)] +=
          static_cast<double>(most);
    }
  };
  ASSERT_TRUE(visit_influence(*model, tokens, 15, see).has_value());
  const auto found = measure_influence(*model, tokens, 15, kBlock);
  ASSERT_TRUE(found.has_value());
  for (size_t id = 0; id < expected.size(); ++id) {
    double beyond = 0;
    for (size_t d = 6; d-- > 0;) {
      EXPECT_NEAR(found->by_distance[id][d], expected[id][d], 1e-9 + 1e-6 * expected[id][d]) << id << " " << d;
      beyond += expected[id][d];
      EXPECT_NEAR(found->lost(id, static_cast<int64_t>(d)), beyond, 1e-9 + 1e-6 * beyond);
    }
    EXPECT_EQ(found->lost(id, 6), 0);
  }
}

TEST(Influence, WantsAnAnswer) {
  const auto model = tiny();
  const std::vector<int32_t> tokens = some_tokens(*model, 8);
  const auto none = measure_influence(*model, tokens, 8, 4);
  ASSERT_FALSE(none.has_value());
  EXPECT_THAT(none.error().message, HasSubstr("8 of 8 tokens"));
}

TEST(SpanRules, AreEighthsAndStepsThatFitBothLengths) {
  const std::vector<SpanRule> rules = span_rules(512, 2048, 16);
  EXPECT_NE(std::find(rules.begin(), rules.end(), SpanRule{0, 1.0}), rules.end());
  EXPECT_NE(std::find(rules.begin(), rules.end(), SpanRule{-64, 0.5}), rules.end());
  EXPECT_NE(std::find(rules.begin(), rules.end(), SpanRule{2048, 0.0}), rules.end());
  for (const SpanRule& rule : rules) {
    EXPECT_GE(rule.alpha + rule.beta * 512, 32);
    EXPECT_LE(rule.alpha + rule.beta * 2048, 2048);
  }
  EXPECT_EQ(span_blocks({-64, 0.5}, 1024, 16), 28);
  EXPECT_EQ(span_blocks({2048, 0}, 512, 16), 32);  // no longer than the text
  EXPECT_EQ(span_blocks({-512, 0.5}, 512, 16), 2);
}

// Two layers of two KV heads: what head `far` loses lies far back, all else at the next block.
std::vector<std::vector<Influence>> one_far_head(size_t far) {
  std::vector<std::vector<Influence>> out;
  for (const size_t n_blocks : {16, 32}) {
    Influence one;
    one.by_distance.assign(4, std::vector<double>(n_blocks, 0.0));
    for (size_t id = 0; id < 4; ++id) one.by_distance[id][id == far ? n_blocks - 2 : 1] = 1;
    out.push_back({one});
  }
  return out;
}

TEST(MoaPlan, TheHeadThatLooksFarHasTheLongSpanAndBudgetsHoldAtEveryLength) {
  if (kSanitized)
    GTEST_SKIP() << "seven seconds of gradients take nine minutes there; the next test runs the same code";
  MoaOptions options;
  options.lengths = {256, 512};
  const auto found = plan_candidates(one_far_head(2), 2, options);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  for (const HeadRules& rules : *found) {
    for (const int length : {256, 512, 1024}) {
      int64_t sum = 0;
      for (const SpanRule& rule : rules) sum += span_blocks(rule, length, 16);
      EXPECT_LE(static_cast<double>(sum * 16), 0.5 * 4 * length) << length;
    }
  }
  const HeadRules& even = found->front();  // both lengths alike
  for (const int length : {256, 512}) {
    EXPECT_GE(span_blocks(even[2], length, 16), length / 16 - 1);
    EXPECT_GE(span_blocks(even[0], length, 16), 3);
  }
  options.shuffled = true;
  std::set<size_t> longest;
  for (options.seed = 0; options.seed < 12; ++options.seed) {
    const HeadRules other = plan_candidates(one_far_head(2), 2, options)->front();
    size_t best = 0;
    for (size_t id = 1; id < 4; ++id) {
      if (span_blocks(other[id], 512, 16) > span_blocks(other[best], 512, 16)) best = id;
    }
    longest.insert(best);
  }
  EXPECT_GT(longest.size(), 1u);
}

TEST(MoaPlan, LosesWhatItsRulesLoseOnTheSameAnswers) {
  const auto model = tiny();
  const auto tokenizer = model->tokenizer();
  ASSERT_TRUE(tokenizer.has_value());
  MoaOptions options;
  options.lengths = {320}, options.validate = 352, options.samples = 1;
  const auto measured = measure_influences(model, **tokenizer, options);
  ASSERT_TRUE(measured.has_value()) << measured.error().message;
  const auto plan = plan_moa(model, **tokenizer, options, *measured);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  const attention::ModelShape& shape = model->shape();
  const auto profile = std::make_shared<attention::HeadProfile>();
  profile->n_layers = shape.n_layers, profile->n_heads = shape.n_heads, profile->n_kv_heads = shape.n_kv_heads;
  set_spans(*profile, plan->rules, options.block);
  const std::vector<Reading> readings = {
      {"dense", nullptr}, {"moa:plan=profile", profile}, {"moa:plan=profile:control=uniform", profile}};
  const auto lost = answer_losses(model, **tokenizer, options, 352, readings);
  ASSERT_TRUE(lost.has_value()) << lost.error().message;
  EXPECT_EQ(*lost, (std::vector<double>{plan->dense_loss, plan->loss, plan->uniform_loss}));
}

}  // namespace influence_test
}  // namespace fovea::probe
