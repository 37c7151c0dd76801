// What must hold of every encoder, on the tiny model that transformers wrote of each (tests/data/encoders, made by
// tools/make_encoder_goldens.py): its hidden rows, also with other fields in config.json; batches and hooks that change
// nothing; texts in one pass alone; refusals of what wants words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "fovea/engine/embedder.h"
#include "fovea/engine/testing/golden.h"
#include "fovea/formats/testing/gguf_writer.h"
#include "fovea/models/family.h"
#include "fovea/models/support/weights.h"
#include "fovea/tensor/ops/ops.h"

namespace fovea::engine {
namespace every_encoder_test {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::unique_ptr<Session> session_of(std::shared_ptr<const Model> model,
                                    kernels::Numerics numerics = kernels::Numerics::kExact,
                                    const std::string& attention = "dense") {
  SessionOptions options{.numerics = numerics};
  options.attention = attention;
  return make_session(std::move(model), options);
}

Rows hidden(Session& session, std::span<const int32_t> ids) {
  const Session::Feed feed{session.begin(), ids};
  const auto rows = session.hidden({&feed, 1});
  EXPECT_TRUE(rows.has_value()) << rows.error().message;
  session.remove(feed.sequence);
  return rows ? rows_of(*rows) : Rows();
}

class EveryEncoder : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    golden_ = read_json_file(folder() + "/golden.json");
    ids_ = golden_["ids"].get<std::vector<int32_t>>();
    model_ = load_model(folder());
    ASSERT_NE(model_, nullptr);
  }
  std::string folder() const { return test_data("encoders/") + GetParam(); }

  nlohmann::json golden_;
  std::vector<int32_t> ids_;
  std::shared_ptr<const Model> model_;
};

INSTANTIATE_TEST_SUITE_P(Folders, EveryEncoder, ::testing::ValuesIn(test_folders("encoders")),
                         [](const auto& test) { return test_name(test.param); });

TEST_P(EveryEncoder, HiddenRowsAreThoseOfTransformers) {
  expect_golden_rows(hidden(*session_of(model_), ids_), golden_["rows"], golden_["hidden"]);
}

TEST_P(EveryEncoder, AlsoWithOtherFields) {
  if (!golden_.contains("variants")) GTEST_SKIP() << "it has no variants";
  for (const auto& [name, variant] : golden_["variants"].items()) {
    SCOPED_TRACE(name);
    with_fields(folder(), variant["config"], [&, &variant = variant](const auto& model) {
      expect_golden_rows(hidden(*session_of(model), ids_), golden_["rows"], variant["hidden"]);
    });
  }
}

// A GGUF file as llama.cpp's converter names its keys and tensors: rows of one name lie one after the other.
std::string as_gguf(const Model& model) {
  formats::GgufWriter w;
  const std::string& architecture = model.config().architecture;
  const attention::ModelShape& s = model.shape();
  const auto key = [&](const char* name) { return architecture + "." + name; };
  w.key("general.architecture", architecture)
      .key("tokenizer.ggml.token_type_count", static_cast<uint32_t>(model.config().n_token_types));
  for (const auto& [name, value] : {std::pair{"block_count", s.n_layers},
                                    {"context_length", s.n_ctx},
                                    {"embedding_length", s.d_model},
                                    {"feed_forward_length", s.d_ff},
                                    {"attention.head_count", s.n_heads},
                                    {"vocab_size", s.vocab_size},
                                    {"pooling_type", 2}})
    w.key(key(name), static_cast<uint32_t>(value));
  w.key(key("attention.causal"), false);
  w.key(key("attention.layer_norm_epsilon"), model.config().norm_eps);
  if (architecture == "t5encoder") {
    const auto [n_buckets, far] = model.config().distances;
    w.key(key("attention.layer_norm_rms_epsilon"), model.config().norm_eps);
    w.key(key("attention.key_length"), static_cast<uint32_t>(s.head_dim));
    w.key(key("attention.value_length"), static_cast<uint32_t>(s.head_dim));
    w.key(key("attention.relative_buckets_count"), static_cast<uint32_t>(n_buckets));
    w.key(key("attention.relative_max_distance"), static_cast<uint32_t>(far));  // llama.cpp knows 128 only
  }
  if (architecture == "nomic-bert") w.key(key("rope.freq_base"), 700.0f);
  if (architecture == "modern-bert") {
    w.key(key("rope.freq_base"), 160000.0f).key(key("rope.freq_base_swa"), 10000.0f);
    w.key(key("attention.sliding_window"), uint32_t{10}).key(key("attention.sliding_window_pattern"), uint32_t{3});
  }
  std::vector<std::string> names;
  std::map<std::string, std::vector<float>> values;
  std::map<std::string, uint64_t> widths;
  auto family = models::make_family(model.config());
  EXPECT_TRUE(models::bind_weights(model.source(), *family).empty());
  for (const tensor::Parameter& p : family->weights()) {
    if (!p.target->defined()) continue;
    if (values.count(p.name) == 0) names.push_back(p.name);
    const Tensor x = tensor::weight_values(*p.target);
    values[p.name].insert(values[p.name].end(), x.values().begin(), x.values().end());
    widths[p.name] = p.shape.size() == 2 ? static_cast<uint64_t>(p.shape[0]) : 0;
  }
  std::string data;
  for (const std::string& name : names) {
    const std::vector<float>& all = values[name];
    const uint64_t width = widths[name], n = all.size();
    w.tensor(name, width > 0 ? std::vector<uint64_t>{width, n / width} : std::vector<uint64_t>{n});
    data.append(reinterpret_cast<const char*>(all.data()), n * sizeof(float));
    data.resize(w.data().size());
  }
  w.data() = data;
  return w.build();
}

TEST_P(EveryEncoder, AGgufFileGivesTheRowsOfTheFolder) {
  const std::string path = ::testing::TempDir() + "/fovea-encoder-" + GetParam() + ".gguf";
  std::ofstream(path, std::ios::binary) << as_gguf(*model_);
  const auto model = load_model(path);
  ASSERT_NE(model, nullptr);
  const auto session = session_of(model);
  expect_golden_rows(hidden(*session, ids_), golden_["rows"], golden_["hidden"]);
  auto embedder = Embedder::create(*session);
  ASSERT_TRUE(embedder.has_value()) << embedder.error().message;
  EXPECT_EQ(embedder->pooling(), Pooling::kCls);  // pooling_type 2
  fs::remove(path);
}

TEST_P(EveryEncoder, TextsOfOnePassGiveTheBitsThatTheyGiveAlone) {
  const std::span<const int32_t> ids(ids_);
  const auto together = session_of(model_), alone = session_of(model_);
  std::vector<Session::Feed> feeds;
  Rows want;
  for (const size_t n : {90, 1, 33, 7, 64}) {
    feeds.push_back({together->begin(), ids.first(n)});
    for (auto& row : hidden(*alone, ids.first(n))) want.push_back(std::move(row));
  }
  const auto rows = together->hidden(feeds);
  ASSERT_TRUE(rows.has_value()) << rows.error().message;
  EXPECT_EQ(rows_of(*rows), want);
}

TEST_P(EveryEncoder, TokensSeeThoseBehindThem) {
  const auto session = session_of(model_);
  std::vector<int32_t> other(ids_.begin(), ids_.begin() + 4);
  const Rows before = hidden(*session, other);
  other[3] = other[3] == 5 ? 6 : 5;
  EXPECT_NE(hidden(*session, other)[0], before[0]);
}

TEST_P(EveryEncoder, AnIdleMethodChangesNoBit) {
  const Rows want = hidden(*session_of(model_), ids_);
  EXPECT_EQ(hidden(*session_of(model_, kernels::Numerics::kExact, "scale:value=1"), ids_), want);
  EXPECT_NE(hidden(*session_of(model_, kernels::Numerics::kExact, "scale:value=0"), ids_), want);
}

TEST_P(EveryEncoder, EveryHookFiresOnceInItsOrderWithItsShapeAndChangesNothing) {
  const auto plain = session_of(model_), watched = session_of(model_);
  const std::span<const int32_t> ids = std::span<const int32_t>(ids_).first(20);
  const Rows want = hidden(*plain, ids);
  const attention::HookMap& map = watched->hooks().model();
  std::vector<std::string> fired;
  const auto scope = watched->hooks().scoped("*", [&](const std::string& name, Tensor& x) {
    const attention::HookMap::Hook& hook = map.hooks()[fired.size() % map.hooks().size()];
    std::vector<int64_t> shape;
    for (int i = 0; i < x.shape().rank(); ++i) shape.push_back(x.dim(i));
    EXPECT_EQ(shape, map.shape(hook.point, 20, 20)) << name;
    fired.push_back(name);
  });
  ASSERT_TRUE(scope.has_value());
  EXPECT_EQ(hidden(*watched, ids), want);
  EXPECT_EQ(fired, map.names());
}

TEST_P(EveryEncoder, RefusesToMakeTextAndToReadATextInParts) {
  const auto session = session_of(model_);
  const auto sequence = session->begin();
  const auto logits = session->prefill(sequence, ids_);
  ASSERT_FALSE(logits.has_value());
  EXPECT_EQ(logits.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(logits.error().message, HasSubstr("fovea embed"));
  const Session::Feed feed{sequence, std::span<const int32_t>(ids_).first(5)};
  ASSERT_TRUE(session->hidden({&feed, 1}).has_value());
  const auto more = session->hidden({&feed, 1});
  ASSERT_FALSE(more.has_value());
  EXPECT_THAT(more.error().message, HasSubstr("one pass"));
}

TEST_P(EveryEncoder, VectorsArePooledAndOfLengthOne) {
  const auto session = session_of(model_);
  const std::vector<std::vector<int32_t>> texts = {ids_, {5, 6, 7}, {9}};
  for (const Pooling pooling : {Pooling::kMean, Pooling::kCls, Pooling::kLast}) {
    for (const bool normalize : {false, true}) {
      auto embedder = Embedder::create(*session, {pooling, normalize});
      ASSERT_TRUE(embedder.has_value()) << embedder.error().message;
      const auto vectors = embedder->embed(texts);
      ASSERT_TRUE(vectors.has_value()) << vectors.error().message;
      for (size_t t = 0; t < texts.size(); ++t) {
        const Rows rows = hidden(*session, texts[t]);
        std::vector<double> want(rows[0].size());
        const size_t first = pooling == Pooling::kLast ? rows.size() - 1 : 0;
        const size_t end = pooling == Pooling::kCls ? 1 : rows.size();
        for (size_t i = first; i < end; ++i) {
          for (size_t c = 0; c < want.size(); ++c) want[c] += rows[i][c] / static_cast<double>(end - first);
        }
        double squares = 0;
        for (const double v : want) squares += v * v;
        for (size_t c = 0; c < want.size(); ++c)
          EXPECT_NEAR((*vectors)[t * want.size() + c], want[c] / (normalize ? std::sqrt(squares) : 1.0), 1e-6);
      }
    }
  }
}

TEST_P(EveryEncoder, TextsWithoutTokensOrWithTooManyAreRefusedByNumber) {
  const auto session = session_of(model_);
  auto embedder = Embedder::create(*session);
  ASSERT_TRUE(embedder.has_value());
  EXPECT_EQ(embedder->pooling(), Pooling::kMean);
  const auto none = embedder->embed(std::vector<std::vector<int32_t>>{{3}, {}});
  ASSERT_FALSE(none.has_value());
  EXPECT_THAT(none.error().message, HasSubstr("text 2 has no tokens"));
  const std::vector<int32_t> longer(129, 3);
  const auto over = embedder->embed(std::vector<std::vector<int32_t>>{longer});
  ASSERT_FALSE(over.has_value());
  EXPECT_THAT(over.error().message, HasSubstr("129 tokens; up to 128"));
}

TEST(Encoders, EveryOneHasATinyModel) {
  std::set<std::string> with_model;
  for (const std::string& name : test_folders("encoders"))
    with_model.insert(load_model(test_data("encoders/") + name)->config().architecture);
  for (const std::string& name : models::family_names()) {
    if (!fs::exists(test_data("families/") + name)) {
      EXPECT_EQ(with_model.count(name), 1u) << name;
    }
  }
}

}  // namespace every_encoder_test
}  // namespace fovea::engine
