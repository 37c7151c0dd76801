#include "fovea/models/support/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/check.h"
#include "fovea/models/family.h"

namespace fovea::models {
namespace {

using formats::ModelSource;

template <typename... Args>
Error problem(ErrorCode code, const std::string& where, fmt::format_string<Args...> format, Args&&... args) {
  return Error{code, fmt::format(format, std::forward<Args>(args)...), where};
}

// An integer key within [min, max].
Result<int64_t> size_key(const ModelSource& source, const std::string& key, int64_t min, int64_t max) {
  FOVEA_ASSIGN_OR_RETURN(const uint64_t n, source.get_u64(key));
  if (n >= static_cast<uint64_t>(min) && n <= static_cast<uint64_t>(max)) return static_cast<int64_t>(n);
  return problem(n > static_cast<uint64_t>(max) ? ErrorCode::kLimit : ErrorCode::kData, key,
                 "{}: key {} is {}; {} to {} are allowed", source.name(), fovea::quoted(key), n, min, max);
}

// A float key, if there, is finite and within [min, max].
Status float_key(const ModelSource& source, const std::string& key, double min, double max) {
  if (!source.has(key)) return {};
  FOVEA_ASSIGN_OR_RETURN(const double x, source.get_f64(key));
  if (x >= min && x <= max) return {};  // false for NaN
  return problem(ErrorCode::kData, key, "{}: key {} is {}; {} to {} are allowed", source.name(), fovea::quoted(key), x,
                 min, max);
}

Error unsupported(const ModelSource& source, std::string_view what) {
  return problem(ErrorCode::kUnsupported, "general.architecture", "{}: this is {}, not a language model", source.name(),
                 what);
}

const FamilyKey* find_key(const std::string& architecture, std::string_view name) {
  const auto family = family_registry().find(architecture);
  if (family == family_registry().end()) return nullptr;
  const std::vector<FamilyKey>& keys = family->second.keys;
  const auto it = std::find_if(keys.begin(), keys.end(), [&](const FamilyKey& key) { return key.name == name; });
  return it == keys.end() ? nullptr : &*it;
}

// Full names of the keys that a family reads; a family's list that lacks one is a fault of the program.
class KeyNames {
 public:
  explicit KeyNames(std::string architecture) : architecture_(std::move(architecture)) {}
  std::string operator()(std::string_view name) const {
    const FamilyKey* key = find_key(architecture_, name);
    FOVEA_CHECK(key && key->use == FamilyKey::Use::kRead, "family {} does not list the key {} as read", architecture_,
                name);
    return architecture_ + "." + std::string(name);
  }

 private:
  std::string architecture_;
};

Status refuse_unknown_keys(const ModelSource& source, const std::string& architecture) {
  const std::string prefix = architecture + ".";
  for (const std::string& name : source.keys_under(prefix)) {
    const FamilyKey* key = find_key(architecture, std::string_view(name).substr(prefix.size()));
    if (!key) {
      return problem(ErrorCode::kUnsupported, name, "{}: key {} asks for something the {} family here does not do",
                     source.name(), fovea::quoted(name), architecture);
    }
    if (key->use == FamilyKey::Use::kOnly && source.text_of(name) != key->only) {
      return problem(ErrorCode::kUnsupported, name, "{}: key {} is {}; the {} family here does only {}", source.name(),
                     fovea::quoted(name), fovea::quoted(source.text_of(name)), architecture, fovea::quoted(key->only));
    }
  }
  return {};
}

// Angles per pair; scaling that is not known here is refused, never ignored.
Result<tensor::RopeTable> read_rope(const ModelSource& source, const ModelSizes& s) {
  const KeyNames a(s.architecture);
  const std::string factors_at = fmt::format("tensor {}", kRopeFactors);
  tensor::RopeTable rope;
  rope.pairing = source.rope_pairing();
  double base = 10000.0, factor = 1.0;
  int64_t turned = s.head_dim;
  if (source.has(a("rope.freq_base"))) {
    FOVEA_ASSIGN_OR_RETURN(base, source.get_f64(a("rope.freq_base")));
  }
  if (source.has(a("rope.dimension_count"))) {
    FOVEA_ASSIGN_OR_RETURN(turned, source.get_i64(a("rope.dimension_count")));
  }
  if (source.has(a("rope.scaling.type"))) {
    FOVEA_ASSIGN_OR_RETURN(const std::string scaling, source.get_string(a("rope.scaling.type")));
    if (scaling == "linear") {
      FOVEA_ASSIGN_OR_RETURN(factor, source.get_f64(a("rope.scaling.factor")));
    } else if (scaling != "none") {
      return problem(ErrorCode::kUnsupported, a("rope.scaling.type"),
                     "{}: rope scaling {} is not supported; none and linear are", source.name(),
                     fovea::quoted(scaling));
    }
  } else {  // a factor alone is linear
    for (const char* key : {"rope.scaling.factor", "rope.scale_linear"}) {
      if (!source.has(a(key))) continue;
      FOVEA_ASSIGN_OR_RETURN(factor, source.get_f64(a(key)));
      break;
    }
  }
  const formats::TensorInfo* freqs = source.find_tensor(kRopeFactors);
  if (freqs && (freqs->dtype != kernels::DType::kF32 || freqs->dims != std::vector<int64_t>{turned / 2})) {
    return problem(ErrorCode::kData, factors_at, "{}: {} should be F32 [{}]", source.name(), factors_at, turned / 2);
  }
  for (int64_t i = 0; i < turned / 2; ++i) {
    double divisor = factor;
    if (freqs) {
      float value;
      std::memcpy(&value, freqs->data.data() + i * static_cast<int64_t>(sizeof(float)), sizeof(float));
      if (!std::isfinite(value) || value <= 0) {
        return problem(ErrorCode::kData, factors_at, "{}: {} holds {}", source.name(), factors_at, value);
      }
      divisor *= value;
    }
    rope.inv_freq.push_back(
        static_cast<float>(std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(turned)) / divisor));
  }
  return rope;
}

}  // namespace

std::vector<FamilyKey> decoder_keys(std::initializer_list<FamilyKey> more) {
  using enum FamilyKey::Use;
  std::vector<FamilyKey> keys = {
      {"block_count"},
      {"context_length"},
      {"embedding_length"},
      {"feed_forward_length"},
      {"vocab_size"},
      {"attention.head_count"},
      {"attention.head_count_kv"},
      {"attention.key_length"},
      {"attention.value_length"},
      {"attention.layer_norm_rms_epsilon"},
      {"rope.dimension_count"},
      {"rope.freq_base"},
      {"rope.scaling.type"},
      {"rope.scaling.factor"},
      {"rope.scale_linear"},
      {"rope.scaling.original_context_length", kNote},  // of use to scalings that are refused
      {"rope.scaling.finetuned", kNote},
      {"attention.causal", kOnly, "true"},
      {"attention.sliding_window", kOnly, "0"},
      {"expert_count", kOnly, "0"},
      {"expert_used_count", kOnly, "0"},
      {"hidden_act", kOnly, "silu"},  // of folders
  };
  for (const FamilyKey& key : more) {
    const auto same = std::find_if(keys.begin(), keys.end(), [&](const FamilyKey& k) { return k.name == key.name; });
    if (same == keys.end()) {
      keys.push_back(key);
    } else {
      *same = key;
    }
  }
  return keys;
}

attention::ModelShape ModelSizes::shape() const {
  return {.n_layers = static_cast<int>(n_layers),
          .n_heads = static_cast<int>(n_heads),
          .n_kv_heads = static_cast<int>(n_kv_heads),
          .head_dim = static_cast<int>(head_dim),
          .d_model = static_cast<int>(d_model),
          .d_ff = static_cast<int>(d_ff),
          .vocab_size = static_cast<int>(vocab_size),
          .n_ctx = static_cast<int>(n_ctx)};
}

Result<ModelSizes> read_sizes(const ModelSource& source) {
  ModelSizes s;
  FOVEA_ASSIGN_OR_RETURN(s.architecture, source.get_string("general.architecture"));
  const auto type = source.get_string("general.type");
  const std::string kind = type ? type.value() : "model";
  if (s.architecture == "clip" || kind == "mmproj") return unsupported(source, "a projector file");
  if (kind == "adapter") return unsupported(source, "a LoRA adapter");
  if (kind == "vocab" || source.tensors().empty()) return unsupported(source, "a vocabulary without weights");
  const std::vector<std::string> known = family_names();
  if (std::find(known.begin(), known.end(), s.architecture) == known.end()) {
    return problem(ErrorCode::kUnsupported, "general.architecture", "{}: architecture {} is not supported; {} are",
                   source.name(), fovea::quoted(s.architecture), fmt::join(known, ", "));
  }
  const KeyNames a(s.architecture);
  FOVEA_ASSIGN_OR_RETURN(s.n_layers, size_key(source, a("block_count"), 1, ModelSizes::kMaxLayers));
  FOVEA_ASSIGN_OR_RETURN(s.n_ctx, size_key(source, a("context_length"), 1, ModelSizes::kMaxContext));
  FOVEA_ASSIGN_OR_RETURN(s.d_model, size_key(source, a("embedding_length"), 1, ModelSizes::kMaxWidth));
  FOVEA_ASSIGN_OR_RETURN(s.d_ff, size_key(source, a("feed_forward_length"), 1, ModelSizes::kMaxWidth));
  FOVEA_ASSIGN_OR_RETURN(s.n_heads, size_key(source, a("attention.head_count"), 1, ModelSizes::kMaxHeads));
  s.n_kv_heads = s.n_heads;
  if (source.has(a("attention.head_count_kv"))) {
    FOVEA_ASSIGN_OR_RETURN(s.n_kv_heads, size_key(source, a("attention.head_count_kv"), 1, s.n_heads));
  }
  if (s.n_heads % s.n_kv_heads != 0) {
    return problem(ErrorCode::kData, a("attention.head_count_kv"), "{}: {} query heads cannot share {} KV heads evenly",
                   source.name(), s.n_heads, s.n_kv_heads);
  }
  if (source.has(a("attention.key_length"))) {
    FOVEA_ASSIGN_OR_RETURN(s.head_dim, size_key(source, a("attention.key_length"), 2, ModelSizes::kMaxHeadDim));
  } else if (s.d_model % s.n_heads != 0) {
    return problem(ErrorCode::kData, a("attention.head_count"), "{}: {} heads do not divide the width {}",
                   source.name(), s.n_heads, s.d_model);
  } else {
    s.head_dim = s.d_model / s.n_heads;
  }
  if (s.head_dim % 2 != 0 || s.head_dim > ModelSizes::kMaxHeadDim) {
    return problem(ErrorCode::kData, a("attention.key_length"),
                   "{}: heads are {} wide; an even number up to {} is allowed (positions turn pairs)", source.name(),
                   s.head_dim, ModelSizes::kMaxHeadDim);
  }
  if (source.has(a("attention.value_length"))) {
    FOVEA_ASSIGN_OR_RETURN(const int64_t value_dim,
                           size_key(source, a("attention.value_length"), 1, ModelSizes::kMaxHeadDim));
    if (value_dim != s.head_dim)
      return problem(ErrorCode::kUnsupported, a("attention.value_length"),
                     "{}: values are {} wide and keys {}; only equal widths are supported", source.name(), value_dim,
                     s.head_dim);
  }
  if (source.has(a("rope.dimension_count"))) {
    FOVEA_ASSIGN_OR_RETURN(const int64_t turned, size_key(source, a("rope.dimension_count"), 2, s.head_dim));
    if (turned % 2 != 0)
      return problem(ErrorCode::kData, a("rope.dimension_count"),
                     "{}: {} turned dimensions per head; the number must be even", source.name(), turned);
  }
  // Normal positive floats, whichever family reads them: a base or an epsilon of 0, NaN or Inf would
  // make every output NaN.
  const std::string prefix = s.architecture + ".";
  for (const char* key : {"rope.freq_base", "rope.freq_base_swa"})
    FOVEA_RETURN_IF_ERROR(float_key(source, prefix + key, 1, 1e12));
  for (const char* key : {"rope.scaling.factor", "rope.scale_linear", "logit_scale"})
    FOVEA_RETURN_IF_ERROR(float_key(source, prefix + key, 1e-6, 1e6));
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"})
    FOVEA_RETURN_IF_ERROR(float_key(source, prefix + key, 1e-3, 1e6));
  FOVEA_RETURN_IF_ERROR(float_key(source, a("attention.layer_norm_rms_epsilon"), 1e-20, 1));
  if (!source.has(a("attention.layer_norm_rms_epsilon"))) {
    return problem(ErrorCode::kData, a("attention.layer_norm_rms_epsilon"), "{}: key {} is missing", source.name(),
                   fovea::quoted(a("attention.layer_norm_rms_epsilon")));
  }
  if (source.has(a("rope.scaling.type"))) {
    FOVEA_ASSIGN_OR_RETURN(const std::string scaling, source.get_string(a("rope.scaling.type")));
    if (scaling != "none" && scaling != "linear") {
      return problem(ErrorCode::kUnsupported, a("rope.scaling.type"),
                     "{}: rope scaling {} is not supported; none and linear are", source.name(),
                     fovea::quoted(scaling));
    }
  }
  if (source.has("tokenizer.ggml.tokens") || !source.has(a("vocab_size"))) {
    FOVEA_ASSIGN_OR_RETURN(const auto tokens, source.get_strings("tokenizer.ggml.tokens"));
    s.vocab_size = static_cast<int64_t>(tokens.size());
    if (s.vocab_size < 1 || s.vocab_size > ModelSizes::kMaxVocab) {
      return problem(ErrorCode::kData, "tokenizer.ggml.tokens", "{}: the vocabulary has {} tokens; 1 to {} are allowed",
                     source.name(), s.vocab_size, ModelSizes::kMaxVocab);
    }
  }
  if (source.has(a("vocab_size"))) {
    FOVEA_ASSIGN_OR_RETURN(const int64_t n, size_key(source, a("vocab_size"), 1, ModelSizes::kMaxVocab));
    if (s.vocab_size != 0 && n != s.vocab_size)
      return problem(ErrorCode::kData, a("vocab_size"), "{}: key {} is {}, but the vocabulary has {} tokens",
                     source.name(), fovea::quoted(a("vocab_size")), n, s.vocab_size);
    s.vocab_size = n;
  }
  // So many layers cannot be there with so few tensors; what follows may loop over them.
  if (s.n_layers > static_cast<int64_t>(source.tensors().size())) {
    return problem(ErrorCode::kData, a("block_count"), "{}: {} layers, but the file has only {} tensors", source.name(),
                   s.n_layers, source.tensors().size());
  }
  return s;
}

Result<Config> read_config(const ModelSource& source) {
  FOVEA_ASSIGN_OR_RETURN(const ModelSizes s, read_sizes(source));
  Config config;
  config.architecture = s.architecture;
  config.shape = s.shape();
  FOVEA_ASSIGN_OR_RETURN(const double eps,
                         source.get_f64(KeyNames(s.architecture)("attention.layer_norm_rms_epsilon")));
  config.norm_eps = static_cast<float>(eps);
  FOVEA_ASSIGN_OR_RETURN(tensor::RopeTable rope, read_rope(source, s));
  config.ropes.push_back(std::move(rope));
  FOVEA_RETURN_IF_ERROR(refuse_unknown_keys(source, s.architecture));
  if (const auto& configure = family_registry().at(s.architecture).configure)
    FOVEA_RETURN_IF_ERROR(configure(source, config));
  return config;
}

}  // namespace fovea::models
