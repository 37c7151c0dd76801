// Gemma 3 with the soft caps of Gemma 2 beside a twin in plain loops: windows, two bases of angles, norms of q and k
// and behind attention and the MLP, weights of norms held less 1, scaled embeddings and queries.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/support/config.h"
#include "fovea/models/testing/gradients.h"
#include "fovea/models/testing/made_up.h"
#include "fovea/tensor/ops/ops.h"

namespace fovea::models {
namespace gemma3_test {

using attention::AttentionShape;
using attention::Hooks;
using attention::KvCache;
using tensor::Tensor;

constexpr int kWindow = 8, kVocab = 61;
constexpr float kLogitCap = 3;

double base_of(int rope) { return rope == 0 ? 1e4 : 1e6; }

// Even layers have a window and the small base, odd ones see all.
std::unique_ptr<Family> gemma3() {
  Config config{.architecture = "gemma3",
                .shape = {.n_layers = 4,
                          .n_heads = 4,
                          .n_kv_heads = 2,
                          .head_dim = 16,
                          .d_model = 32,
                          .d_ff = 48,
                          .vocab_size = kVocab,
                          .n_ctx = 1024},
                .norm_eps = 1e-6f,
                .ropes = {}};
  for (int rope = 0; rope < 2; ++rope) {
    config.ropes.emplace_back();
    for (int i = 0; i < 16; i += 2)
      config.ropes.back().inv_freq.push_back(static_cast<float>(std::pow(base_of(rope), -i / 16.0)));
  }
  std::vector<AttentionShape> layers;
  for (int l = 0; l < 4; ++l) {
    AttentionShape layer = config.shape.site(l);
    layer.rope = l % 2;
    layer.scale = 0.2f;  // not 1 / sqrt(16)
    layer.softcap = 2;
    if (l % 2 == 0) layer.window = kWindow;
    layers.push_back(layer);
  }
  config.shape.attention = layers;
  config.decoder = {.embed_scale = std::sqrt(static_cast<float>(config.shape.d_model)),
                    .logit_softcap = kLogitCap,
                    .activation = tensor::Activation::kGeluTanh};
  return make_family(config);
}

twin::Rows slow_logits(const MadeUp& model, std::span<const int32_t> ids) {
  using namespace twin;
  const auto& s = model.shape();
  const auto whole = [](Row w) { return map(w, [](double x) { return 1 + x; }); };
  const auto normed = [&](const Rows& x, const std::string& name) {
    const Row w = whole(vector_of(model.stored(name)));
    return map(x, [&](const Row& row) {  // a row of x may hold several heads
      Row y;
      for (size_t at = 0; at < row.size(); at += w.size()) {
        const Row part = rms_norm(
            Row(row.begin() + static_cast<int64_t>(at), row.begin() + static_cast<int64_t>(at + w.size())), w, 1e-6);
        y.insert(y.end(), part.begin(), part.end());
      }
      return y;
    });
  };
  const Rows embeddings = rows_of(model.stored("token_embd.weight"));
  Rows x;
  for (const int32_t id : ids)
    x.push_back(map(embeddings[static_cast<size_t>(id)], [&](double v) { return v * std::sqrt(s.d_model); }));
  for (int l = 0; l < s.n_layers; ++l) {
    const std::string at = "blk." + std::to_string(l) + ".";
    const auto by = [&](const Rows& in, const char* name) {
      return product(in, rows_of(model.stored(at + name + ".weight")));
    };
    const AttentionShape a = s.site(l);
    const Rows h = normed(x, at + "attn_norm.weight");
    Rows q = normed(by(h, "attn_q"), at + "attn_q_norm.weight"), k = normed(by(h, "attn_k"), at + "attn_k_norm.weight");
    for (size_t i = 0; i < q.size(); ++i) {
      q[i] = turned(q[i], 16, static_cast<int>(i), base_of(a.rope));
      k[i] = turned(k[i], 16, static_cast<int>(i), base_of(a.rope));
    }
    const Rows z = attend(q, k, by(h, "attn_v"), a, [&](int i, int j) { return j <= i && i - j < a.window; });
    x = plus(x, normed(by(z, "attn_output"), at + "post_attention_norm.weight"));
    const Rows in = normed(x, at + "ffn_norm.weight");
    const Rows gate = by(in, "ffn_gate");
    Rows up = by(in, "ffn_up");
    for (size_t i = 0; i < up.size(); ++i) up[i] = times(map(gate[i], gelu_tanh), up[i]);
    x = plus(x, normed(by(up, "ffn_down"), at + "post_ffw_norm.weight"));
  }
  return map(product(normed(x, "output_norm.weight"), embeddings),
             [](const Row& row) { return map(row, [](double v) { return kLogitCap * std::tanh(v / kLogitCap); }); });
}

class Gemma3 : public ::testing::Test {
 protected:
  Tensor logits(std::span<const int32_t> ids, KvCache& cache, int32_t first = 0) {
    const attention::Batch batch = batch_of(ids, first);
    return forward(model_.family(), model_.context(batch, &cache), hooks_);
  }

  tensor::Exec exec_{.arena = nullptr, .numerics = tensor::Numerics::kExact};
  tensor::ExecScope scope_{exec_};
  MadeUp model_{gemma3()};
  Hooks hooks_{model_.family().hooks()};
  KvCache cache_{model_.cache_shape()};
};

TEST_F(Gemma3, EqualsItsSlowTwin) {
  const std::vector<int32_t> ids = some_ids(45, kVocab);
  twin::expect_near(logits(ids, cache_), slow_logits(model_, ids), 1e-4);
}

// 1,200 tokens: the windows let a segment of 1,024 keys go, at another time with every chunk.
TEST_F(Gemma3, ChunksGiveTheBitsOfOnePassThoughKeysAreLetGo) {
  const std::vector<int32_t> ids = some_ids(1200, kVocab);
  const std::vector<float> whole = values(logits(ids, cache_));
  for (const size_t chunk : {size_t{37}, size_t{512}}) {
    KvCache cache(model_.cache_shape());
    std::vector<float> parts;
    for (size_t first = 0; first < ids.size(); first += chunk) {
      const std::vector<float> part = values(logits(std::span(ids).subspan(first, std::min(chunk, ids.size() - first)),
                                                    cache, static_cast<int32_t>(first)));
      parts.insert(parts.end(), part.begin(), part.end());
    }
    EXPECT_EQ(cache.n_keys(0, 0, 0), 1200 - 1024);
    EXPECT_TRUE(parts == whole) << chunk;
  }
}

TEST_F(Gemma3, LayersWithAWindowFreeTheirPages) {
  const std::vector<int32_t> ids = some_ids(128, kVocab);
  for (int32_t first = 0; first < 3200; first += 128) logits(ids, cache_, first);
  for (int l = 0; l < 4; ++l) {
    if (l % 2 == 1) {
      EXPECT_EQ(cache_.n_keys(0, l, 0), 3200) << l;
    } else {
      EXPECT_EQ(cache_.n_keys(0, l, 0), 3200 - 3 * 1024) << l;
    }
  }
  const uint64_t page = cache_.page_bytes(0, 1);
  EXPECT_LE(cache_.bytes(0), (2 * 2 * 3200 / 32 + 2 * 2 * 4) * page) << "4 pages hold what is left of the windows";
}

TEST_F(Gemma3, EveryHookFiresOnceInItsOrderWithItsShape) {
  std::vector<std::string> fired;
  std::vector<std::vector<int64_t>> shapes;
  ASSERT_TRUE(hooks_
                  .attach("*",
                          [&](const std::string& name, Tensor& x) {
                            fired.push_back(name);
                            shapes.emplace_back();
                            for (int i = 0; i < x.shape().rank(); ++i) shapes.back().push_back(x.dim(i));
                          })
                  .has_value());
  logits(some_ids(6, kVocab), cache_);
  const attention::HookMap& map = hooks_.model();
  EXPECT_EQ(fired, map.names());
  for (size_t i = 0; i < shapes.size(); ++i) EXPECT_EQ(shapes[i], map.shape(map.hooks()[i].point, 6, 6)) << fired[i];
  EXPECT_THAT(fired, ::testing::IsSupersetOf({"blocks.1.ln1_post.hook_scale", "blocks.3.ln2_post.hook_normalized"}));
}

TEST_F(Gemma3, EveryWeightHasTheGradientOfTheLoss) {
  MadeUp model(gemma3());
  const std::vector<int32_t> ids = some_ids(20, kVocab);
  std::vector<int32_t> targets(ids.begin() + 1, ids.end());
  targets.push_back(-1);
  const attention::Batch batch = batch_of(ids);
  expect_gradients(model.parameters(), [&] {
    return cross_entropy(forward(model.family(), model.context(batch, nullptr), hooks_), targets).mean();
  });
}

}  // namespace gemma3_test
}  // namespace fovea::models
