// A bidirectional encoder (BERT: Devlin et al., arXiv:1810.04805): learned positions, norms behind attention and MLP,
// biases, GELU, every token sees every other; the answer is a vector a sequence.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/models/support/blocks.h"
#include "fovea/models/testing/made_up.h"
#include "fovea/tensor/ops/ops.h"

namespace fovea::models {
namespace encoder_test {

using attention::Attend;
using attention::AttentionShape;
using attention::Batch;
using attention::Hooks;
using attention::kNoLayer;
using attention::KvCache;
using attention::Site;
using tensor::Parameter;
using tensor::Tensor;
using tensor::Weight;

constexpr float kEps = 1e-5f;
constexpr int kVocab = 50;
constexpr Site kNormalizedPost = attention::own_site(0), kPooled = attention::own_site(1);

class EncoderLike final : public Family {
 public:
  enum class Pooling { kMean, kFirst };
  explicit EncoderLike(Pooling pooling) : pooling_(pooling) {
    cfg_.architecture = "encoder-like";
    cfg_.shape = {.n_layers = 2,
                  .n_heads = 4,
                  .n_kv_heads = 4,
                  .head_dim = 8,
                  .d_model = 24,
                  .d_ff = 40,
                  .vocab_size = kVocab,
                  .n_ctx = 64};
    AttentionShape layer = cfg_.shape.site(0);
    layer.causal = false;
    layer.rope = AttentionShape::kNoRope;
    cfg_.shape.attention.assign(2, layer);
    blocks_.resize(2);
  }

  const Config& config() const override { return cfg_; }

  std::vector<Parameter> weights() override {
    const int64_t d = cfg_.shape.d_model, ff = cfg_.shape.d_ff, z = 32;
    std::vector<Parameter> table = {{"token_embd.weight", "", {d, kVocab}, &tokens_},
                                    {"position_embd.weight", "", {d, cfg_.shape.n_ctx}, &positions_},
                                    {"token_embd_norm.weight", "", {d}, &norm_.weight},
                                    {"token_embd_norm.bias", "", {d}, &norm_.bias}};
    for (size_t l = 0; l < blocks_.size(); ++l) {
      Block& w = blocks_[l];
      const auto add = [&](const char* name, std::vector<int64_t> shape, Affine& to) {
        const int64_t width = shape.back();
        table.push_back({fmt::format("blk.{}.{}.weight", l, name), "", std::move(shape), &to.weight});
        table.push_back({fmt::format("blk.{}.{}.bias", l, name), "", {width}, &to.bias});
      };
      add("attn_q", {d, z}, w.q), add("attn_k", {d, z}, w.k), add("attn_v", {d, z}, w.v);
      add("attn_output", {z, d}, w.o), add("attn_output_norm", {d}, w.norm1);
      add("ffn_up", {d, ff}, w.up), add("ffn_down", {ff, d}, w.down), add("layer_output_norm", {d}, w.norm2);
    }
    return table;
  }

  attention::HookMap hooks() const override {
    using enum Site;
    attention::HookMap map(cfg_.shape);
    map.add(kEmbed), map.add(kPosEmbed);
    for (int l = 0; l < n_blocks(); ++l) {
      const attention::HookBlock block{.layer = l, .name = fmt::format("blocks.{}", l)};
      constexpr Site kSitesOfBlock[] = {kResidPre, kQ,        kK,      kV,       kScores, kPattern,  kZ,
                                        kAttnOut,  kResidMid, kMlpPre, kMlpPost, kMlpOut, kResidPost};
      map.add(block, kSitesOfBlock);
      map.add_own(block, kNormalizedPost, "hook_normalized_resid_post", {attention::HookMap::kTokens, 24});
    }
    map.add_own(kPooled, "pooler.hook_out", {1, 24});
    return map;
  }

  Tensor embed(const Batch& batch, Hooks& hook) const override {
    const Tensor tokens = hook(Site::kEmbed, kNoLayer, tensor::embed(tokens_, batch.tokens));
    const Tensor positions = hook(Site::kPosEmbed, kNoLayer, tensor::embed(positions_, batch.positions));
    return layer_norm(add(tokens, positions), norm_.weight, norm_.bias, kEps);
  }

  Tensor block(int l, Tensor x, Attend& attend, Hooks& hook) const override {
    const Block& w = blocks_[static_cast<size_t>(l)];
    const auto heads = [&](const Affine& by) { return split_heads(matmul(x, by.weight, by.bias), cfg_.shape.n_heads); };
    x = hook(Site::kResidPre, l, std::move(x));
    const Tensor z = merge_heads(attend(l, {heads(w.q), heads(w.k), heads(w.v)}));
    x = hook(Site::kResidMid, l, add(x, hook(Site::kAttnOut, l, matmul(z, w.o.weight, w.o.bias))));
    x = layer_norm(x, w.norm1.weight, w.norm1.bias, kEps);
    const Tensor up = hook(Site::kMlpPre, l, matmul(x, w.up.weight, w.up.bias));
    const Tensor out = matmul(hook(Site::kMlpPost, l, tensor::gelu(up)), w.down.weight, w.down.bias);
    x = hook(Site::kResidPost, l, add(x, hook(Site::kMlpOut, l, out)));
    return hook(kNormalizedPost, l, layer_norm(x, w.norm2.weight, w.norm2.bias, kEps));
  }

  // [sequences, d_model]
  Tensor unembed(const Tensor& x, const Batch& batch, Hooks& hook) const override {
    std::vector<Tensor> vectors;
    for (int64_t begin = 0, end = 0; begin < batch.size(); begin = end) {
      while (end < batch.size() &&
             batch.sequences[static_cast<size_t>(end)] == batch.sequences[static_cast<size_t>(begin)])
        ++end;
      const Tensor rows = slice(x, 0, begin, pooling_ == Pooling::kFirst ? begin + 1 : end);
      vectors.push_back(reshape(mean(rows, 0), {1, x.dim(1)}));
    }
    return hook(kPooled, kNoLayer, concat(vectors, 0));
  }

 private:
  struct Affine {
    Weight weight, bias;
  };
  struct Block {
    Affine q, k, v, o, norm1, up, down, norm2;
  };
  Pooling pooling_;
  Config cfg_;
  Weight tokens_, positions_;
  Affine norm_;
  std::vector<Block> blocks_;
};

twin::Row slow_vector(const MadeUp& model, std::span<const int32_t> ids, EncoderLike::Pooling pooling) {
  using namespace twin;
  const auto bias = [&](const std::string& name) { return vector_of(model.stored(name + ".bias")); };
  const auto by = [&](const Rows& x, const std::string& name) {
    return map(product(x, rows_of(model.stored(name + ".weight"))),
               [&](const Row& row) { return plus(row, bias(name)); });
  };
  const auto normed = [&](const Rows& x, const std::string& name) {
    return map(x, [&](const Row& row) {
      return layer_norm(row, vector_of(model.stored(name + ".weight")), bias(name), kEps);
    });
  };
  const Rows tokens = rows_of(model.stored("token_embd.weight")),
             positions = rows_of(model.stored("position_embd.weight"));
  Rows x;
  for (size_t i = 0; i < ids.size(); ++i) x.push_back(plus(tokens[static_cast<size_t>(ids[i])], positions[i]));
  x = normed(x, "token_embd_norm");
  for (int l = 0; l < model.shape().n_layers; ++l) {
    const std::string at = fmt::format("blk.{}.", l);
    const Rows z = attend(by(x, at + "attn_q"), by(x, at + "attn_k"), by(x, at + "attn_v"), model.shape().site(l),
                          [](int, int) { return true; });
    x = normed(plus(x, by(z, at + "attn_output")), at + "attn_output_norm");
    const Rows up = map(by(x, at + "ffn_up"), [](const Row& row) { return map(row, gelu); });
    x = normed(plus(x, by(up, at + "ffn_down")), at + "layer_output_norm");
  }
  if (pooling == EncoderLike::Pooling::kFirst) return x[0];
  Row sum(x[0].size());
  for (const Row& row : x) sum = plus(sum, row);
  return map(sum, [&](double v) { return v / static_cast<double>(x.size()); });
}

class EncoderLikeTest : public ::testing::TestWithParam<EncoderLike::Pooling> {
 protected:
  tensor::Exec exec_{.arena = nullptr, .numerics = tensor::Numerics::kExact};
  tensor::ExecScope scope_{exec_};
  MadeUp model_{std::make_unique<EncoderLike>(GetParam())};
  Hooks hooks_{model_.family().hooks()};
};
INSTANTIATE_TEST_SUITE_P(Poolings, EncoderLikeTest,
                         ::testing::Values(EncoderLike::Pooling::kMean, EncoderLike::Pooling::kFirst));

TEST_P(EncoderLikeTest, EqualsItsSlowTwinWithAndWithoutACache) {
  const std::vector<int32_t> ids = some_ids(37, kVocab);
  const Batch batch = batch_of(ids);
  const twin::Rows want = {slow_vector(model_, ids, GetParam())};
  twin::expect_near(forward(model_.family(), model_.context(batch, nullptr), hooks_), want, 1e-4);
  KvCache cache(model_.cache_shape());
  twin::expect_near(forward(model_.family(), model_.context(batch, &cache), hooks_), want, 1e-4);
}

TEST_P(EncoderLikeTest, SequencesOfOneBatchAreThoseAlone) {
  const std::vector<int32_t> a = some_ids(9, kVocab), b = some_ids(21, kVocab - 3);
  Batch both = batch_of(a);
  both.add(b, 0, 1);
  const Tensor vectors = forward(model_.family(), model_.context(both, nullptr), hooks_);
  twin::expect_near(vectors, {slow_vector(model_, a, GetParam()), slow_vector(model_, b, GetParam())}, 1e-4);
}

TEST_P(EncoderLikeTest, ItsHooksFireInTheirOrderAndOthersAreRefusedWithAReason) {
  std::vector<std::string> fired;
  ASSERT_TRUE(hooks_.attach("*", [&](const std::string& name, Tensor&) { fired.push_back(name); }).has_value());
  const Batch batch = batch_of(some_ids(5, kVocab));
  KvCache cache(model_.cache_shape());
  forward(model_.family(), model_.context(batch, &cache), hooks_);
  EXPECT_EQ(fired, hooks_.model().names());
  EXPECT_THAT(fired,
              ::testing::IsSupersetOf({"hook_pos_embed", "blocks.1.hook_normalized_resid_post", "pooler.hook_out"}));
  const auto why = [&](const char* name) { return attention::find_hooks(name, hooks_.model()).error().message; };
  EXPECT_THAT(why("rot_q0"), ::testing::HasSubstr("does not turn"));
  EXPECT_THAT(why("blocks.0.mlp.hook_pre_linear"), ::testing::HasSubstr("no gate"));
  EXPECT_THAT(why("logits"), ::testing::HasSubstr("vectors"));
  EXPECT_THAT(why("blocks.0.ln1.hook_scale"), ::testing::HasSubstr("no such value"));
}

}  // namespace encoder_test
}  // namespace fovea::models
