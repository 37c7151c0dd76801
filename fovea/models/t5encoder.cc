// The encoder of T5 and mT5: no positions but a bias of the scores by the distance of key and query, one for all
// blocks; norms without a mean; scores are not scaled. Raffel et al., arXiv:1910.10683; 1.1 gates its MLP
// (arXiv:2002.05202).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/models/support/decoder.h"
#include "fovea/models/support/layers.h"

namespace fovea::models {
namespace {

// Of the key `distance` behind the query (before it: negative): each side has half of the buckets; the nearest
// distances have one each, the others share them by their logarithm, in float32 as transformers counts them.
int bucket_of(int distance, int n_buckets, int far) {
  const int side = n_buckets / 2, exact = side / 2, away = std::abs(distance);
  const int first = distance > 0 ? side : 0;
  if (away < exact) return first + away;
  const float part = std::log(static_cast<float>(away) / static_cast<float>(exact)) /
                     std::log(static_cast<float>(far) / static_cast<float>(exact));
  return first + std::min(exact + static_cast<int>(part * static_cast<float>(side - exact)), side - 1);
}

class T5Encoder final : public Decoder {
 public:
  static constexpr FamilyTraits kTraits{.models = "T5, FLAN-T5 and mT5: vectors of their encoder",
                                        .limits = "the decoder, and GGUF files with it (t5)"};
  explicit T5Encoder(const Config& config)
      : Decoder(config, {.rows = rows(config.decoder.gated),
                         .ends = end_rows(),
                         .gguf_block = "enc.blk.",
                         .hf_block = "encoder.block.",
                         .makes_text = false}) {}

  static Status configure(const Keys& keys, Config& config) {
    constexpr const char *kBuckets = "attention.relative_buckets_count", *kFar = "attention.relative_max_distance";
    for (attention::AttentionShape& site : sites(config)) {
      site.rope = attention::AttentionShape::kNoRope;
      site.scale = 1;
    }
    look_both_ways(config);
    FOVEA_ASSIGN_OR_RETURN(const int64_t n, keys.size_or(kBuckets, 32, 4, 1'024));
    FOVEA_ASSIGN_OR_RETURN(const int64_t far, keys.size_or(kFar, 128, 2, 1 << 12));
    if (n % 2 != 0 || far <= n / 4)
      return keys.problem(
          ErrorCode::kData, kBuckets,
          fmt::format("is {} for distances up to {}; an even number below 4 times that is allowed", n, far));
    config.distances = {static_cast<int>(n), static_cast<int>(far)};
    return read_mlp(keys, config.decoder);
  }

 private:
  using B = DecoderBlock;
  using E = DecoderEnds;
  using enum Width;

  // "relu", "gated-gelu"; what it stands for may be said again, and that counts. A GGUF file says it by what it has.
  static Status read_mlp(const Keys& keys, DecoderScalars& decoder) {
    using enum tensor::Activation;
    constexpr const char *kKey = "feed_forward_proj", *kGated = "is_gated_act";
    const bool gate = keys.source().find_tensor("enc.blk.0.ffn_gate.weight") != nullptr;
    FOVEA_ASSIGN_OR_RETURN(const std::string name, keys.text_or(kKey, gate ? "gated-gelu" : "relu"));
    const bool gated = name.starts_with("gated-");
    FOVEA_ASSIGN_OR_RETURN(decoder.gated, keys.flag_or(kGated, gated));
    if (keys.has("hidden_act")) return {};  // read as of any family
    for (const auto& [known, activation] : {std::pair{"relu", kRelu},
                                            {"gelu", kGelu},
                                            {"silu", kSilu},
                                            {"gated-relu", kRelu},
                                            {"gated-gelu", kGeluTanh},
                                            {"gated-silu", kSilu}}) {
      if (name != known) continue;
      decoder.activation = activation;
      return {};
    }
    return keys.problem(ErrorCode::kUnsupported, kKey,
                        fmt::format("is {}; relu, gelu, silu and these behind gated- are supported", quote(name)));
  }

  tensor::Tensor bias_by_distance() const override {
    const auto [n_buckets, far] = config().distances;
    const tensor::Tensor buckets = tensor::weight_values(ends().distance_bias);  // [n_buckets, n_heads]
    const int64_t n_heads = buckets.dim(1), width = 2 * int64_t{far} + 1;
    tensor::Tensor table = tensor::Tensor::empty({n_heads, width});
    for (int64_t j = 0; j < width; ++j) {
      const float* row = buckets.data() + bucket_of(static_cast<int>(j) - far, n_buckets, far) * n_heads;
      for (int64_t h = 0; h < n_heads; ++h) table.data()[h * width + j] = row[h];
    }
    return table;
  }

  static std::vector<DecoderRow> rows(bool gated) {
    const tensor::Init ones = tensor::Init::ones();
    const DecoderRow gate = {"ffn_gate.weight", "layer.1.DenseReluDense.wi_0.weight", {kModel, kMlp}, &B::w_gate};
    return decoder_rows({{"attn_norm.weight", "layer.0.layer_norm.weight", {kModel}, &B::attn_norm, ones},
                         {"attn_q.weight", "layer.0.SelfAttention.q.weight", {kModel, kQ}, &B::w_q},
                         {"attn_k.weight", "layer.0.SelfAttention.k.weight", {kModel, kK}, &B::w_k},
                         {"attn_v.weight", "layer.0.SelfAttention.v.weight", {kModel, kV}, &B::w_v},
                         {"attn_o.weight", "layer.0.SelfAttention.o.weight", {kZ, kModel}, &B::w_o},
                         {"ffn_norm.weight", "layer.1.layer_norm.weight", {kModel}, &B::mlp_norm, ones},
                         gated ? gate : DecoderRow{"", "", {}, &B::w_gate},
                         {"ffn_up.weight",
                          gated ? "layer.1.DenseReluDense.wi_1.weight" : "layer.1.DenseReluDense.wi.weight",
                          {kModel, kMlp},
                          &B::w_up},
                         {"ffn_down.weight", "layer.1.DenseReluDense.wo.weight", {kMlp, kModel}, &B::w_down}});
  }
  static std::vector<EndRow> end_rows() {
    return {
        {"token_embd.weight", "shared.weight", {kModel, kVocab}, &E::embed},
        {"enc.blk.0.attn_rel_b.weight",
         "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
         {kHeads, kBuckets},
         &E::distance_bias},
        {"enc.output_norm.weight", "encoder.final_layer_norm.weight", {kModel}, &E::final_norm, tensor::Init::ones()}};
  }
};
FOVEA_REGISTER_FAMILY(T5Encoder, "t5encoder",
                      without_rope(decoder_keys({{"attention.causal", FamilyKey::Use::kOnly, "false"},
                                                 {"attention.layer_norm_epsilon"},
                                                 {"attention.relative_buckets_count"},
                                                 {"attention.relative_max_distance"},
                                                 {"feed_forward_proj"},
                                                 {"is_gated_act"},
                                                 {"decoder_block_count", FamilyKey::Use::kNote},
                                                 {"decoder_start_token_id", FamilyKey::Use::kNote}})));

}  // namespace
}  // namespace fovea::models
