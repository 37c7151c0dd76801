#include "fovea/models/support/experts.h"

#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <string>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/ops.h"

namespace fovea::models {

using attention::Hooks;
using attention::Site;
using tensor::Tensor;
using enum Width;

namespace {

constexpr std::string_view kCount = "expert_count", kUsed = "expert_used_count", kWidth = "expert_feed_forward_length",
                           kSharedWidth = "expert_shared_feed_forward_length", kNormalized = "expert_weights_norm",
                           kDense = "mlp_only_layers", kStep = "decoder_sparse_step";

Result<std::vector<bool>> dense_layers(const Keys& keys, int n_layers) {
  std::vector<bool> dense(static_cast<size_t>(n_layers));
  FOVEA_ASSIGN_OR_RETURN(const int64_t step, keys.size_or(kStep, 1, 1, INT_MAX));
  for (int l = 0; l < n_layers; ++l) dense[static_cast<size_t>(l)] = (l + 1) % step != 0;
  if (keys.has(kDense)) {
    FOVEA_ASSIGN_OR_RETURN(const auto layers, keys.source().get_i64s(keys.name(kDense)));
    for (const int64_t l : layers) {
      if (l < 0 || l >= n_layers)
        return keys.problem(ErrorCode::kData, kDense, fmt::format("names layer {} of {}", l, n_layers));
      dense[static_cast<size_t>(l)] = true;
    }
  }
  return dense;
}

// A hook may send tokens to other experts.
void show_indices(tensor::Routing& to, int n_experts, Hooks& hook, int layer) {
  if (!hook.wants(Site::kExpertIndices, layer)) return;
  Tensor shown = Tensor::empty(to.weights.shape());
  std::copy(to.experts.begin(), to.experts.end(), shown.data());
  const tensor::Shape shape = shown.shape();
  shown = hook(Site::kExpertIndices, layer, std::move(shown));
  FOVEA_CHECK(shown.shape() == shape, "mlp.hook_expert_indices: {} was left of {}", shown.shape().to_string(),
              shape.to_string());
  for (size_t i = 0; i < to.experts.size(); ++i) {
    const float e = shown.data()[i];
    FOVEA_CHECK(e >= 0 && e < static_cast<float>(n_experts) && e == std::floor(e),
                "mlp.hook_expert_indices: there is no expert {} of {}", e, n_experts);
    to.experts[i] = static_cast<int32_t>(e);
  }
}

}  // namespace

std::vector<FamilyKey> with_experts(std::vector<FamilyKey> keys) {
  std::erase_if(keys, [](const FamilyKey& key) { return key.name == kCount || key.name == kUsed; });
  keys.insert(keys.end(), {{kCount}, {kUsed}, {kWidth}, {kNormalized}, {kDense}, {kStep}});
  return keys;
}

Status read_experts(const Keys& keys, Config& config, bool normalized) {
  ExpertSizes& e = config.experts;
  FOVEA_ASSIGN_OR_RETURN(const int64_t n, keys.size_or(kCount, 0, 0, ModelSizes::kMaxExperts));
  if (n == 0) {
    for (const std::string_view key : {kUsed, kWidth, kSharedWidth, kNormalized, kDense, kStep}) {
      if (!keys.lists(key) || !keys.has(key)) continue;
      const std::string value = keys.source().text_of(keys.name(key));
      if (value != "0" && value != "false")
        return keys.problem(ErrorCode::kData, key,
                            fmt::format("is {}, but {} says that there are no experts", value, keys.name(kCount)));
    }
    return {};
  }
  if (n * config.shape.n_layers > ModelSizes::kMaxExpertsInAllLayers)
    return keys.problem(ErrorCode::kLimit, kCount,
                        fmt::format("is {}, in {} layers; {} experts in all are allowed", n, config.shape.n_layers,
                                    ModelSizes::kMaxExpertsInAllLayers));
  FOVEA_ASSIGN_OR_RETURN(const int64_t used, keys.size(kUsed, 1, ModelSizes::kMaxExperts));
  if (used > n) return keys.problem(ErrorCode::kData, kUsed, fmt::format("is {}, but there are {} experts", used, n));
  e.n = static_cast<int>(n), e.used = static_cast<int>(used);
  FOVEA_ASSIGN_OR_RETURN(e.d_ff, keys.size_or(kWidth, config.shape.d_ff, 1, ModelSizes::kMaxWidth));
  if (keys.lists(kSharedWidth)) {
    FOVEA_ASSIGN_OR_RETURN(e.shared_d_ff, keys.size_or(kSharedWidth, config.shape.d_ff, 1, ModelSizes::kMaxWidth));
  }
  FOVEA_ASSIGN_OR_RETURN(e.normalized, keys.flag_or(kNormalized, normalized));
  FOVEA_ASSIGN_OR_RETURN(e.dense_layers, dense_layers(keys, config.shape.n_layers));
  return {};
}

DecoderStyle with_expert_rows(DecoderStyle style, const ExpertNames& hf) {
  using E = tensor::Expert;
  style.router_rows.push_back(
      {"ffn_gate_inp.weight", std::string(hf.router), {kModel, kExperts}, &DecoderBlock::w_router});
  style.expert_rows = {{"ffn_gate_exps.weight", std::string(hf.gate), {kModel, kExpertMlp}, &E::w_gate},
                       {"ffn_up_exps.weight", std::string(hf.up), {kModel, kExpertMlp}, &E::w_up},
                       {"ffn_down_exps.weight", std::string(hf.down), {kExpertMlp, kModel}, &E::w_down}};
  return style;
}

Tensor mix_experts(const Tensor& h, const Mixture& by, Hooks& hook, int layer) {
  const Tensor logits = hook(Site::kMlpGate, layer, matmul(h, by.router.w, by.router.bias));  // [n, n_experts]
  const Tensor shares = hook(Site::kExpertWeights, layer, tensor::softmax(logits));
  tensor::Routing to = tensor::route(shares, by.sizes.used, by.sizes.normalized);
  show_indices(to, by.sizes.n, hook, layer);
  return tensor::mix_experts(h, by.experts, to, by.act);
}

}  // namespace fovea::models
