// Two towers: an encoder of patches, bidirectional, whose rows a causal decoder reads by cross-attention (Whisper, T5
// and the older vision-language models). One chain: the encoder's blocks, then the decoder's, run in two passes.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/base/check.h"
#include "fovea/models/support/blocks.h"
#include "fovea/models/testing/gradients.h"
#include "fovea/models/testing/made_up.h"
#include "fovea/tensor/ops/ops.h"

namespace fovea::models {
namespace two_towers_test {

using attention::Attend;
using attention::AttentionShape;
using attention::Batch;
using attention::HookBlock;
using attention::HookMap;
using attention::Hooks;
using attention::kNoLayer;
using attention::KvCache;
using attention::Site;
using tensor::Parameter;
using tensor::Tensor;
using tensor::Weight;

constexpr int kEncoderBlocks = 2, kDecoderBlocks = 2, kPatch = 24, kVocab = 40;  // patches are of the encoder's width
constexpr float kEps = 1e-5f;

class TwoTowers final : public Family {
 public:
  TwoTowers() {
    cfg_.architecture = "two-towers";
    cfg_.shape = {.n_layers = kEncoderBlocks + 2 * kDecoderBlocks,
                  .n_heads = 4,
                  .n_kv_heads = 2,
                  .head_dim = 8,
                  .d_model = 32,
                  .d_ff = 40,
                  .vocab_size = kVocab,
                  .n_ctx = 256};
    const AttentionShape causal = cfg_.shape.site(0);
    AttentionShape open = causal;
    open.causal = false;
    open.rope = AttentionShape::kNoRope;
    AttentionShape encoder = open;
    encoder.n_heads = encoder.n_k_heads = encoder.n_v_heads = 3;
    std::vector<AttentionShape> layers(kEncoderBlocks, encoder);
    for (int i = 0; i < kDecoderBlocks; ++i) layers.push_back(causal), layers.push_back(open);
    cfg_.shape.attention = layers;
    cfg_.ropes.emplace_back();
    for (int i = 0; i < 8; i += 2) cfg_.ropes[0].inv_freq.push_back(static_cast<float>(std::pow(1e4, -i / 8.0)));
  }

  const Config& config() const override { return cfg_; }
  int n_blocks() const override { return kEncoderBlocks + kDecoderBlocks; }

  std::vector<Parameter> weights() override {
    const int64_t d = cfg_.shape.d_model, ff = cfg_.shape.d_ff, q = 32, kv = 16;
    std::vector<Parameter> table = {{"token_embd.weight", "", {d, kVocab}, &tokens_},
                                    {"output_norm.weight", "", {d}, &final_norm_}};
    const auto add = [&](const std::string& at, int64_t in, int64_t source, int64_t q_dim, int64_t kv_dim,
                         Attention& w) {
      table.push_back({at + "_norm.weight", "", {in}, &w.norm});
      table.push_back({at + "_q.weight", "", {in, q_dim}, &w.q});
      table.push_back({at + "_k.weight", "", {source, kv_dim}, &w.k});
      table.push_back({at + "_v.weight", "", {source, kv_dim}, &w.v});
      table.push_back({at + "_output.weight", "", {q_dim, in}, &w.o});
    };
    for (int b = 0; b < kEncoderBlocks; ++b) {
      EncoderBlock& w = encoder_[b];
      const std::string at = fmt::format("v.blk.{}.", b);
      add(at + "attn", kPatch, kPatch, 24, 24, w.attention);
      table.push_back({at + "ffn_norm.weight", "", {kPatch}, &w.mlp_norm});
      table.push_back({at + "ffn_up.weight", "", {kPatch, 48}, &w.up});
      table.push_back({at + "ffn_down.weight", "", {48, kPatch}, &w.down});
    }
    for (int b = 0; b < kDecoderBlocks; ++b) {
      DecoderBlock& w = decoder_[b];
      const std::string at = fmt::format("blk.{}.", b);
      add(at + "attn", d, d, q, kv, w.self);
      add(at + "cross_attn", d, kPatch, q, kv, w.cross);
      table.push_back({at + "ffn_norm.weight", "", {d}, &w.mlp_norm});
      table.push_back({at + "ffn_gate.weight", "", {d, ff}, &w.gate});
      table.push_back({at + "ffn_up.weight", "", {d, ff}, &w.up});
      table.push_back({at + "ffn_down.weight", "", {ff, d}, &w.down});
    }
    return table;
  }

  HookMap hooks() const override {
    using enum Site;
    HookMap map(cfg_.shape);
    for (int b = 0; b < kEncoderBlocks; ++b) {
      constexpr Site kSitesOfBlock[] = {kResidPre, kQ,        kK,      kV,       kScores, kPattern,  kZ,
                                        kAttnOut,  kResidMid, kMlpPre, kMlpPost, kMlpOut, kResidPost};
      map.add({.layer = b, .name = fmt::format("vision.blocks.{}", b), .d_model = kPatch, .d_ff = 48}, kSitesOfBlock);
    }
    map.add(kEmbed);
    for (int b = 0; b < kDecoderBlocks; ++b) {
      constexpr Site kBefore[] = {kResidPre, kQ, kK, kV, kRotQ, kRotK, kScores, kPattern, kZ, kAttnOut, kResidMid};
      constexpr Site kCross[] = {kCrossAttnIn, kQ, kK, kV, kScores, kPattern, kZ, kCrossAttnOut, kResidMidCross};
      constexpr Site kAfter[] = {kMlpPre, kMlpPreLinear, kMlpPost, kMlpOut, kResidPost};
      const HookBlock self{.layer = self_layer(b), .name = fmt::format("blocks.{}", b)};
      HookBlock cross = self;
      cross.layer += 1;
      cross.attention = "cross_attn";
      map.add(self, kBefore);
      map.add(cross, kCross);
      map.add(self, kAfter);
    }
    for (const Site site : {kLnFinalScale, kLnFinalNormalized, kUnembedIn, kLogits}) map.add(site);
    return map;
  }

  Tensor embed(const Batch& batch, Hooks& hook) const override {
    return hook(Site::kEmbed, kNoLayer, tensor::embed(tokens_, batch.tokens));
  }

  Tensor block(int b, Tensor x, Attend& attend, Hooks& hook) const override {
    return b < kEncoderBlocks ? encoder_block(b, std::move(x), attend, hook)
                              : decoder_block(b - kEncoderBlocks, std::move(x), attend, hook);
  }

  Tensor unembed(const Tensor& x, const Batch& batch, Hooks& hook) const override {
    return models::unembed(x, batch, {.norm = {final_norm_, kEps}, .head = {tokens_, kNoWeight}}, hook);
  }

 private:
  struct Attention {
    Weight norm, q, k, v, o;
  };
  struct EncoderBlock {
    Attention attention;
    Weight mlp_norm, up, down;
  };
  struct DecoderBlock {
    Attention self, cross;
    Weight mlp_norm, gate, up, down;
  };
  static int self_layer(int b) { return kEncoderBlocks + 2 * b; }

  Tensor encoder_block(int b, Tensor x, Attend& attend, Hooks& hook) const {
    const EncoderBlock& w = encoder_[b];
    x = hook(Site::kResidPre, b, std::move(x));
    Tensor h = rms_norm(x, w.attention.norm, kEps);
    const auto heads = [&](const Weight& by) { return split_heads(matmul(h, by), 3); };
    const Tensor z = attend(b, {heads(w.attention.q), heads(w.attention.k), heads(w.attention.v)});
    x = hook(Site::kResidMid, b, add(x, hook(Site::kAttnOut, b, matmul(merge_heads(z), w.attention.o))));
    h = hook(Site::kMlpPre, b, matmul(rms_norm(x, w.mlp_norm, kEps), w.up));
    h = hook(Site::kMlpPost, b, tensor::gelu(h));
    return hook(Site::kResidPost, b, add(x, hook(Site::kMlpOut, b, matmul(h, w.down))));
  }

  Tensor decoder_block(int b, Tensor x, Attend& attend, Hooks& hook) const {
    const DecoderBlock& w = decoder_[b];
    const int l = self_layer(b), c = l + 1;
    const auto heads = [](const Tensor& h, const Weight& by, int n) { return split_heads(matmul(h, by), n); };
    x = hook(Site::kResidPre, l, std::move(x));
    Tensor h = rms_norm(x, w.self.norm, kEps);
    Tensor z = attend(l, {heads(h, w.self.q, 4), heads(h, w.self.k, 2), heads(h, w.self.v, 2)});
    x = hook(Site::kResidMid, l, add(x, hook(Site::kAttnOut, l, matmul(merge_heads(z), w.self.o))));

    h = rms_norm(hook(Site::kCrossAttnIn, c, x), w.cross.norm, kEps);
    const Tensor& source = attend.source();  // empty once the cache holds what was made of it
    z = attend.cross(c, heads(h, w.cross.q, 4), source.defined() ? heads(source, w.cross.k, 2) : Tensor(),
                     source.defined() ? heads(source, w.cross.v, 2) : Tensor());
    x = hook(Site::kResidMidCross, c, add(x, hook(Site::kCrossAttnOut, c, matmul(merge_heads(z), w.cross.o))));

    h = mlp_hidden(rms_norm(x, w.mlp_norm, kEps), {{w.gate, kNoWeight}, {w.up, kNoWeight}}, hook, l);
    return hook(Site::kResidPost, l, add_mlp_out(x, h, {{w.down, kNoWeight}}, hook, l));
  }

  Config cfg_;
  Weight tokens_, final_norm_;
  EncoderBlock encoder_[kEncoderBlocks];
  DecoderBlock decoder_[kDecoderBlocks];
};

twin::Rows slow_logits(const MadeUp& model, const Tensor& patches, std::span<const int32_t> ids) {
  using namespace twin;
  const auto& s = model.shape();
  const auto by = [&](const Rows& x, const std::string& name) {
    return product(x, rows_of(model.stored(name + ".weight")));
  };
  const auto normed = [&](const Rows& x, const std::string& name) {
    return map(x, [&](const Row& row) { return rms_norm(row, vector_of(model.stored(name + ".weight")), kEps); });
  };
  const auto all = [](int, int) { return true; };
  Rows source = rows_of(patches);
  for (int b = 0; b < kEncoderBlocks; ++b) {
    const std::string at = fmt::format("v.blk.{}.", b);
    const Rows h = normed(source, at + "attn_norm");
    const Rows z = attend(by(h, at + "attn_q"), by(h, at + "attn_k"), by(h, at + "attn_v"), s.site(b), all);
    source = plus(source, by(z, at + "attn_output"));
    const Rows up = by(normed(source, at + "ffn_norm"), at + "ffn_up");
    source = plus(source, by(map(up, [](const Row& row) { return map(row, gelu); }), at + "ffn_down"));
  }
  const Rows embeddings = rows_of(model.stored("token_embd.weight"));
  Rows x;
  for (const int32_t id : ids) x.push_back(embeddings[static_cast<size_t>(id)]);
  for (int b = 0; b < kDecoderBlocks; ++b) {
    const std::string at = fmt::format("blk.{}.", b);
    const int layer = kEncoderBlocks + 2 * b;
    Rows h = normed(x, at + "attn_norm");
    Rows q = by(h, at + "attn_q"), k = by(h, at + "attn_k");
    for (size_t i = 0; i < q.size(); ++i) {
      q[i] = turned(q[i], 8, static_cast<int>(i), 1e4);
      k[i] = turned(k[i], 8, static_cast<int>(i), 1e4);
    }
    const Rows z = attend(q, k, by(h, at + "attn_v"), s.site(layer), [](int i, int j) { return j <= i; });
    x = plus(x, by(z, at + "attn_output"));
    h = normed(x, at + "cross_attn_norm");
    const Rows read = attend(by(h, at + "cross_attn_q"), by(source, at + "cross_attn_k"),
                             by(source, at + "cross_attn_v"), s.site(layer + 1), all);
    x = plus(x, by(read, at + "cross_attn_output"));
    h = normed(x, at + "ffn_norm");
    const Rows gate = by(h, at + "ffn_gate");
    Rows up = by(h, at + "ffn_up");
    for (size_t i = 0; i < up.size(); ++i) up[i] = times(map(gate[i], silu), up[i]);
    x = plus(x, by(up, at + "ffn_down"));
  }
  return product(normed(x, "output_norm"), embeddings);
}

class TwoTowersTest : public ::testing::Test {
 protected:
  // What the encoder makes of the patches; its keys stay nowhere.
  Tensor encoded() {
    const std::vector<int32_t> names(static_cast<size_t>(patches_.dim(0)), 0);
    const Batch batch = batch_of(names);
    KvCache cache(model_.cache_shape());
    return forward(model_.family(), model_.context(batch, &cache), hooks_,
                   {.x = patches_, .end_block = kEncoderBlocks});
  }
  // Tokens from position `first` on; `source` for the first of them.
  Tensor decoded(std::span<const int32_t> ids, KvCache& cache, int32_t first = 0, const Tensor& source = {}) {
    const Batch batch = batch_of(ids, first);
    Attend::Context context = model_.context(batch, &cache);
    context.source = source;
    return forward(model_.family(), context, hooks_, {.first_block = kEncoderBlocks});
  }

  tensor::Exec exec_{.arena = nullptr, .numerics = tensor::Numerics::kExact};
  tensor::ExecScope scope_{exec_};
  MadeUp model_{std::make_unique<TwoTowers>()};
  Hooks hooks_{model_.family().hooks()};
  const Tensor patches_ = tensor::random_tensor({35, kPatch}, 5);
  const std::vector<int32_t> ids_ = some_ids(40, kVocab);
};

TEST_F(TwoTowersTest, EqualsItsSlowTwin) {
  KvCache cache(model_.cache_shape());
  twin::expect_near(decoded(ids_, cache, 0, encoded()), slow_logits(model_, patches_, ids_), 1e-4);
}

TEST_F(TwoTowersTest, ChunksAndDecodingGiveTheLogitsOfOnePass) {
  KvCache cache(model_.cache_shape());
  const Tensor source = encoded();
  const std::vector<float> whole = values(decoded(ids_, cache, 0, source));
  for (const size_t chunk : {size_t{1}, size_t{9}}) {
    KvCache other(model_.cache_shape());
    std::vector<float> parts;
    for (size_t first = 0; first < ids_.size(); first += chunk) {
      const std::vector<float> part =
          values(decoded(std::span(ids_).subspan(first, std::min(chunk, ids_.size() - first)), other,
                         static_cast<int32_t>(first), first == 0 ? source : Tensor()));
      parts.insert(parts.end(), part.begin(), part.end());
    }
    EXPECT_EQ(parts, whole) << chunk;
  }
}

TEST_F(TwoTowersTest, EveryWeightOfBothTowersHasTheGradientOfTheLoss) {
  const std::vector<int32_t> names(static_cast<size_t>(patches_.dim(0)), 0), ids = some_ids(12, kVocab);
  std::vector<int32_t> targets(ids.begin() + 1, ids.end());
  targets.push_back(-1);
  const Batch images = batch_of(names), text = batch_of(ids);
  auto& parameters = model_.parameters();
  expect_gradients(parameters, [&] {
    Attend::Context context = model_.context(text, nullptr);
    context.source =
        forward(model_.family(), model_.context(images, nullptr), hooks_, {.x = patches_, .end_block = kEncoderBlocks});
    return cross_entropy(forward(model_.family(), context, hooks_, {.first_block = kEncoderBlocks}), targets).mean();
  });
}

TEST_F(TwoTowersTest, HooksAreNamedByTheirTower) {
  std::vector<std::string> fired;
  std::vector<int64_t> cross_keys;
  ASSERT_TRUE(hooks_
                  .attach("*",
                          [&](const std::string& name, Tensor& x) {
                            fired.push_back(name);
                            if (name == "blocks.1.cross_attn.hook_pattern") cross_keys = {x.dim(0), x.dim(1), x.dim(2)};
                          })
                  .has_value());
  KvCache cache(model_.cache_shape());
  decoded(ids_, cache, 0, encoded());
  EXPECT_EQ(fired, hooks_.model().names());
  EXPECT_THAT(cross_keys, ::testing::ElementsAre(4, 40, 35));
  EXPECT_THAT(fired, ::testing::IsSupersetOf(
                         {"vision.blocks.1.attn.hook_z", "blocks.1.attn.hook_z", "blocks.0.hook_resid_mid_cross"}));
  const auto count = [&](const char* glob) { return attention::find_hooks(glob, hooks_.model()).value().size(); };
  EXPECT_EQ(count("vision.*.hook_pattern"), 2u);
  EXPECT_EQ(count("*attn.hook_pattern"), 6u);
  EXPECT_EQ(count("pattern1"), 1u) << "of the decoder";
  const auto wrong = attention::find_hooks("vision.blocks.7.hook_resid_pre", hooks_.model());
  ASSERT_FALSE(wrong.has_value());
  EXPECT_THAT(wrong.error().message, ::testing::HasSubstr("vision.blocks.1.hook_resid_pre"));
}

TEST_F(TwoTowersTest, AHookInTheEncoderReachesTheAnswer) {
  KvCache cache(model_.cache_shape()), other(model_.cache_shape());
  const std::vector<float> plain = values(decoded(ids_, cache, 0, encoded()));
  ASSERT_TRUE(
      hooks_.attach("vision.blocks.1.hook_mlp_out", [](const std::string&, Tensor& x) { x = Tensor::zeros(x.shape()); })
          .has_value());
  EXPECT_NE(values(decoded(ids_, other, 0, encoded())), plain);
  EXPECT_TRUE(hooks_.check_fired().has_value());
}

}  // namespace two_towers_test
}  // namespace fovea::models
