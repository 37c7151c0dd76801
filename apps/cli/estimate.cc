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

}  // namespace

Status print_estimate(const Common& common, const ModelFlags& flags, int64_t n_prompt, int64_t n_predict) {
  FOVEA_ASSIGN_OR_RETURN(const std::string path, store::resolve_model(common.model));
  FOVEA_ASSIGN_OR_RETURN(const auto source, formats::open_model(path));
  FOVEA_ASSIGN_OR_RETURN(const models::Config config, models::read_config(*source));
  const attention::ModelShape& shape = config.shape;
  FOVEA_RETURN_IF_ERROR(check_context(flags, shape));
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
    const uint64_t packed = dims.size() == 2 ? kernels::packed_bytes({tensor.to, dims[1], dims[0], nullptr}) : 0;
    const bool is_wider = kernels::is_widened(tensor.bytes, packed);
    weights += is_wider ? packed : tensor.bytes;
    if (is_wider) wider += packed, widened += tensor.bytes;
  }
  const kernels::KvType type = cache_type_of(common, flags);
  const attention::KvCache cache(attention::CacheShape::of(shape, type));
  // What the methods promise to keep.
  attention::HeadProfile profile;
  FOVEA_ASSIGN_OR_RETURN(const attention::Pipeline pipeline, methods_of(flags, shape, profile));
  const auto kv = [&](int64_t n_keys) {
    uint64_t bytes = 0;
    for (int layer = 0; layer < shape.n_layers; ++layer) {
      for (int kv_head = 0; kv_head < shape.site(layer).n_kv_heads(); ++kv_head) {
        int64_t kept = n_keys;
        for (const auto& method : pipeline.methods()) kept = std::min(kept, method->max_keys(layer, kv_head));
        bytes += cache.ideal_bytes(layer, kept);
      }
    }
    return bytes;
  };
  const uint64_t kv_prompt = kv(n_prompt), kv_all = kv(n_prompt + n_answer);
  const uint64_t activations = activation_bytes(shape, std::min(chunk, n_prompt));
  const uint64_t total = weights + kv_all + activations, available = available_bytes();
  // Two operations for each weight and token, and for each of a query's keys and values.
  const double n_params = static_cast<double>(store::describe_model(path, *source).n_params);
  const double keys = static_cast<double>(n_prompt) * static_cast<double>(n_prompt + 1) / 2;
  const double attention = 4 * keys * shape.n_layers * shape.n_heads * shape.head_dim;
  const double gflop = (2 * n_params * static_cast<double>(n_prompt) + attention) / 1e9;

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
                       {"cache_type", kernels::name_of(type)},
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
                     kernels::name_of(type), pipeline.spec());
  out += fmt::format("activations      about {}\n", mega(activations));
  out += fmt::format("memory           about {}", mega(total));
  if (available > 0) out += fmt::format("; {} are free{}", mega(available), total > available ? ": too little" : "");
  return print(out + "\n");
}

}  // namespace fovea::cli
