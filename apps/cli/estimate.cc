#include "apps/cli/estimate.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "fovea/attention/kv_cache.h"
#include "fovea/attention/pipeline.h"
#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/log.h"
#include "fovea/engine/head_profile.h"
#include "fovea/engine/soft_prompt.h"
#include "fovea/formats/requantize.h"
#include "fovea/kernels/matmul.h"
#include "fovea/kernels/wide_form.h"
#include "fovea/models/support/config.h"
#include "fovea/probe/measures/profile.h"
#include "fovea/store/model_store.h"

namespace fovea::cli {
namespace {

std::string mega(uint64_t bytes) { return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6); }

// Rows of float32 that a layer has at once: the residual and its norm, q, k, v and z, the two halves of the MLP and
// their product. From 32 to 512 tokens of a pass a process grew by 15 MB where this says 16 (smollm2-135m), and by 31
// of 39 (qwen2.5-coder-0.5b).
uint64_t activation_bytes(const attention::ModelShape& shape, int64_t n_tokens) {
  const int64_t heads = (2 * shape.n_heads + 2 * shape.n_kv_heads) * shape.head_dim;
  const int64_t row = 4 * shape.d_model + heads + 3 * shape.d_ff;
  return static_cast<uint64_t>(n_tokens * row + shape.vocab_size) * sizeof(float);
}

// The methods asked for. Whose profile would have to be looked for is not known without the model's weights: then the
// estimate is that of dense attention, and a warning says so. They read `profile` as long as they are there.
Result<attention::Pipeline> methods_of(const ModelFlags& flags, const attention::ModelShape& shape,
                                       attention::HeadProfile& profile) {
  attention::ModelShape model = shape;
  if (!flags.profile.empty()) {
    constexpr uint64_t kMaxBytes = 64 << 20;
    FOVEA_ASSIGN_OR_RETURN(const std::string text, read_file(flags.profile, kMaxBytes));
    FOVEA_ASSIGN_OR_RETURN(profile, engine::parse_head_profile(text, quote(flags.profile, 4096), shape));
  } else {
    // One with all that can be measured, the same for every head: it tells wrong knobs from a missing profile.
    profile.n_layers = shape.n_layers, profile.n_heads = shape.n_heads, profile.n_kv_heads = shape.n_kv_heads;
    for (const auto& [name, column] : probe::profile_columns())
      probe::set_column(profile, name, std::vector<double>(profile.size(column.of), 0.0));
  }
  auto without = attention::Pipeline::parse(flags.attention, shape);
  if (without) return without;
  model.profile = &profile;
  auto with = attention::Pipeline::parse(flags.attention, model);
  if (!with || !flags.profile.empty()) return with;
  log_warning("the estimate is that of dense attention: {}", without.error().message);
  return attention::Pipeline();
}

// The tensors as they will be in memory.
Result<std::vector<formats::PlannedTensor>> planned(const ModelFlags& flags, const formats::ModelSource& source) {
  if (flags.quantize.empty()) {
    std::vector<formats::PlannedTensor> plan;
    for (const auto& tensor : source.tensors()) plan.push_back({&tensor, tensor.dtype, tensor.bytes});
    return plan;
  }
  FOVEA_ASSIGN_OR_RETURN(const kernels::DType type, formats::parse_type(flags.quantize));
  const auto* gguf = dynamic_cast<const formats::Gguf*>(&source);
  if (!gguf)
    return make_error(ErrorCode::kUsage, "--estimate with --quantize wants a GGUF file: see fovea convert --dry-run");
  return formats::plan_types(*gguf, type);
}

// Two for each weight and token that meet: of the rows of a vocabulary the last token's alone, of experts those used.
double weight_operations(const models::Config& config, const formats::ModelSource& source, int64_t n_prompt) {
  double per_token = 0;
  for (const auto& tensor : source.tensors()) {
    const std::vector<int64_t>& dims = tensor.dims;
    if (dims.size() < 2 || (dims.size() == 2 && dims[1] == config.shape.vocab_size)) continue;
    double n = 1;
    for (const int64_t dim : dims) n *= static_cast<double>(dim);
    const bool of_expert = dims.size() == 3 || tensor.name.find(".experts.") != std::string::npos;
    per_token += of_expert && config.experts.n > 0 ? n * config.experts.used / config.experts.n : n;
  }
  const double logits = static_cast<double>(config.shape.vocab_size) * config.shape.d_model;
  return 2 * (per_token * static_cast<double>(n_prompt) + logits);
}

// Two for each number of a key and of a value that a query meets: those before it, of which `kept` stay.
template <typename Kept>
double attention_operations(const attention::ModelShape& shape, const Kept& kept, int64_t n_prompt) {
  double out = 0;
  for (int layer = 0; layer < shape.n_layers; ++layer) {
    const attention::AttentionShape& site = shape.site(layer);
    for (int kv_head = 0; kv_head < site.n_kv_heads(); ++kv_head) {
      const auto most = static_cast<double>(std::min<int64_t>(kept(layer, kv_head, n_prompt), site.window));
      const auto n = static_cast<double>(n_prompt);
      const double met = most * (most + 1) / 2 + (n - most) * most;
      out += 2 * met * site.group() * (site.k_dim + site.v_dim);
    }
  }
  return out;
}

}  // namespace

Status print_estimate(const Common& common, const ModelFlags& given, int64_t n_prompt, int64_t n_predict) {
  ModelFlags flags = given;
  FOVEA_ASSIGN_OR_RETURN(const std::string path, store::resolve_model(common.model));
  FOVEA_ASSIGN_OR_RETURN(const auto source, formats::open_model(path));
  FOVEA_ASSIGN_OR_RETURN(const models::Config config, models::read_config(*source));
  const attention::ModelShape& shape = config.shape;
  FOVEA_RETURN_IF_ERROR(check_context(flags, shape));
  if (!flags.soft_prompt.empty()) {
    FOVEA_ASSIGN_OR_RETURN(const tensor::Tensor rows, engine::read_soft_prompt(flags.soft_prompt, shape));
    n_prompt += rows.dim(0);
  }
  FOVEA_ASSIGN_OR_RETURN(const auto choice, choose_attention(common, flags, path, shape, n_prompt));
  if (choice) flags.attention = choice->spec;
  const int64_t n_ctx = flags.n_ctx > 0 ? flags.n_ctx : context_of(flags, shape);
  if (n_prompt > n_ctx)
    return make_error(ErrorCode::kLimit, "the prompt is {} tokens long and the context holds {}", n_prompt, n_ctx);
  const int64_t n_answer = n_predict < 0 ? n_ctx - n_prompt : std::min(n_predict, n_ctx - n_prompt);
  const int64_t chunk = std::min(flags.chunk, flags.most_at_once);
  const int64_t n_passes = (n_prompt + chunk - 1) / chunk;

  uint64_t weights = 0, wider = 0, widened = 0;  // types without a kernel of their own take a wider form in memory
  FOVEA_ASSIGN_OR_RETURN(const std::vector<formats::PlannedTensor> plan, planned(flags, *source));
  for (const formats::PlannedTensor& tensor : plan) {
    const std::vector<int64_t>& dims = tensor.from->dims;
    const uint64_t packed =
        dims.size() == 2 ? kernels::packed_bytes({tensor.to, dims[1], dims[0], nullptr}, kernels::Numerics::kFast) : 0;
    const bool is_wider = kernels::is_widened(tensor.bytes, packed);
    weights += is_wider ? packed : tensor.bytes;
    if (is_wider) wider += packed, widened += tensor.bytes;
  }
  const attention::CacheTypes type = cache_type_of(common, flags);
  const attention::KvCache cache(attention::CacheShape::of(shape, type));
  // What the methods promise to keep.
  attention::HeadProfile profile;
  FOVEA_ASSIGN_OR_RETURN(const attention::Pipeline pipeline, methods_of(flags, shape, profile));
  const auto kept_keys = [&](int layer, int kv_head, int64_t n_keys) {
    int64_t kept = n_keys;
    for (const auto& method : pipeline.methods()) kept = std::min(kept, method->max_keys(layer, kv_head));
    return kept;
  };
  const auto kv = [&](int64_t n_keys) {
    uint64_t bytes = 0;
    for (int layer = 0; layer < shape.n_layers; ++layer) {
      for (int kv_head = 0; kv_head < shape.site(layer).n_kv_heads(); ++kv_head)
        bytes += cache.ideal_bytes(layer, kept_keys(layer, kv_head, n_keys));
    }
    return bytes;
  };
  const uint64_t kv_prompt = kv(n_prompt), kv_all = kv(n_prompt + n_answer);
  const uint64_t activations = activation_bytes(shape, std::min(chunk, n_prompt));
  const uint64_t total = weights + kv_all + activations, available = available_bytes();
  const double gflop =
      (weight_operations(config, *source, n_prompt) + attention_operations(shape, kept_keys, n_prompt)) / 1e9;

  if (common.json) {
    return print_json({{"estimate", true},
                       {"path", path},
                       {"n_ctx", n_ctx},
                       {"prompt_tokens", n_prompt},
                       {"answer_tokens", n_answer},
                       {"passes", n_passes},
                       {"tokens_per_pass", std::min(chunk, n_prompt)},
                       {"prompt_gflop", gflop},
                       {"weights_bytes", weights},
                       {"widened_bytes", wider},
                       {"kv_bytes_prompt", kv_prompt},
                       {"kv_bytes", kv_all},
                       {"attention", pipeline.spec()},
                       {"cache_type", attention::name_of(type)},
                       {"activation_bytes", activations},
                       {"total_bytes", total},
                       {"available_bytes", available},
                       {"fits", available == 0 || total <= available}});
  }
  std::string out = fmt::format("prompt           {} tokens, {} a pass, passes: {}, {:.1f} Gflop\n", n_prompt,
                                std::min(chunk, n_prompt), n_passes, gflop);
  out += fmt::format("answer           at most {} tokens, one a pass\n", n_answer);
  out += fmt::format("weights          {}", mega(weights));
  if (wider > 0) out += fmt::format(", {} of them a wider form of {} in the file", mega(wider), mega(widened));
  out += "\n";
  out += fmt::format("keys and values  {} after the prompt, {} at the most ({}, {})\n", mega(kv_prompt), mega(kv_all),
                     attention::name_of(type), pipeline.spec());
  out += fmt::format("activations      about {}\n", mega(activations));
  out += fmt::format("memory           about {}", mega(total));
  if (available > 0) out += fmt::format("; {} are free{}", mega(available), total > available ? ": too little" : "");
  return print(out + "\n");
}

}  // namespace fovea::cli
