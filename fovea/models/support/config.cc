#include "fovea/models/support/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/models/family.h"
#include "fovea/models/support/keys.h"
#include "fovea/models/support/rope.h"

namespace fovea::models {
namespace {

using formats::ModelSource;

template <typename... Args>
Error problem(ErrorCode code, const std::string& where, fmt::format_string<Args...> format, Args&&... args) {
  return Error{code, fmt::format(format, std::forward<Args>(args)...), where};
}

// A float key, if there, is finite and within [min, max].
Status float_key(const ModelSource& source, const std::string& key, double min, double max) {
  if (!source.has(key)) return {};
  FOVEA_ASSIGN_OR_RETURN(const double x, source.get_f64(key));
  if (x >= min && x <= max) return {};  // false for NaN
  return problem(ErrorCode::kData, key, "{}: {} is {}; {} to {} are allowed", source.name(), source.called(key), x, min,
                 max);
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

Status refuse_unknown_keys(const ModelSource& source, const std::string& architecture) {
  const std::string prefix = architecture + ".";
  for (const std::string& name : source.keys_under(prefix)) {
    const FamilyKey* key = find_key(architecture, std::string_view(name).substr(prefix.size()));
    if (!key) {
      return problem(ErrorCode::kUnsupported, name, "{}: {} asks for something the {} family here does not do",
                     source.name(), source.called(name), architecture);
    }
    if (key->use == FamilyKey::Use::kOnly && source.text_of(name) != key->only) {
      return problem(ErrorCode::kUnsupported, name, "{}: {} is {}; the {} family here does only {}", source.name(),
                     source.called(name), quote(source.text_of(name)), architecture, quote(key->only));
    }
  }
  return {};
}

Result<tensor::Activation> read_activation(const Keys& keys, tensor::Activation otherwise) {
  using enum tensor::Activation;
  constexpr std::pair<std::string_view, tensor::Activation> kNames[] = {
      {"silu", kSilu},         {"swish", kSilu},         {"gelu", kGelu},
      {"gelu_new", kGeluTanh}, {"gelu_fast", kGeluTanh}, {"gelu_pytorch_tanh", kGeluTanh},
      {"relu", kRelu}};
  if (!keys.has("hidden_act")) return otherwise;
  FOVEA_ASSIGN_OR_RETURN(const std::string name, keys.text_or("hidden_act", ""));
  for (const auto& [known, activation] : kNames) {
    if (name == known) return activation;
  }
  return keys.problem(
      ErrorCode::kUnsupported, "hidden_act",
      fmt::format("is {}; silu, gelu, gelu_new, gelu_pytorch_tanh and relu are supported", quote(name)));
}

// The norms' epsilon; without one, or with one that is 0 or no number, outputs would be.
Result<double> read_eps(const Keys& keys) {
  constexpr const char* kNames[] = {"attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"};
  std::optional<double> eps;
  for (const char* name : kNames) {
    if (!keys.has(name)) continue;
    FOVEA_ASSIGN_OR_RETURN(const double value, keys.number(name, 1e-20, 1));
    if (!eps) eps = value;
  }
  if (eps) return *eps;
  const char* wanted = keys.lists(kNames[0]) ? kNames[0] : kNames[1];
  return keys.problem(ErrorCode::kData, wanted, "is missing");
}

// What layers turn by: a table of all, another of those with a window where the file tells one, none at all.
Status read_ropes(const Keys& keys, const ModelSizes& s, const FamilyTraits& traits, Config& config) {
  const tensor::RopePairing pairing = keys.source().rope_pairing(traits.pairing);
  if (!keys.lists("rope.freq_base")) return {};
  FOVEA_ASSIGN_OR_RETURN(const int64_t turned, keys.size_or("rope.dimension_count", s.head_dim, 2, s.head_dim));
  FOVEA_ASSIGN_OR_RETURN(RopeTables all,
                         read_rope(keys, pairing, turned, s.n_ctx, {.truncates = traits.yarn_truncates}));
  config.ropes = {all.table};
  if (all.beyond) config.long_ropes = {*all.beyond}, config.short_context = all.short_context;
  if (!keys.lists(kWindowRopeKeys.base)) return {};
  FOVEA_ASSIGN_OR_RETURN(const RopeTables of_windows,
                         read_rope(keys, pairing, turned, s.n_ctx, kWindowRopeKeys, traits.window_rope_base));
  if (of_windows.beyond || all.beyond)
    return keys.problem(ErrorCode::kUnsupported, "rope.scaling.type", "is longrope, beside angles of windows");
  config.ropes.push_back(of_windows.table);
  return {};
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
      {"hidden_act"},
      {"rope.dimension_count"},
      {"rope.freq_base"},
      {"rope.scale_linear"},
      {"rope.scaling.type"},
      {"rope.scaling.factor"},
      {"rope.scaling.original_context_length"},
      {"rope.scaling.attn_factor"},
      {"rope.scaling.attention_factor"},
      {"rope.scaling.yarn_beta_fast"},
      {"rope.scaling.yarn_beta_slow"},
      {"rope.scaling.truncate"},
      {"rope.scaling.mscale"},
      {"rope.scaling.mscale_all_dim"},
      {"rope.scaling.low_freq_factor"},
      {"rope.scaling.high_freq_factor"},
      {"rope.scaling.long_factors"},
      {"rope.scaling.short_factors"},
      {"rope.scaling.finetuned", kNote},
      {"attention.causal", kOnly, "true"},
      {"attention.sliding_window", kOnly, "0"},
      {"expert_count", kOnly, "0"},
      {"expert_used_count", kOnly, "0"},
      {"hidden_act", kOnly, "silu"},  // of folders
      {"pooling_type", kNote},        // of vectors: engine/embedder.h reads it
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

std::vector<FamilyKey> layer_norm_keys(std::initializer_list<FamilyKey> more) {
  std::vector<FamilyKey> keys = decoder_keys(more);
  for (FamilyKey& key : keys) {
    if (key.name == "attention.layer_norm_rms_epsilon") key.name = "attention.layer_norm_epsilon";
  }
  return keys;
}

std::vector<FamilyKey> encoder_keys(std::initializer_list<FamilyKey> more) {
  std::vector<FamilyKey> keys = layer_norm_keys(more);
  for (FamilyKey& key : keys) {
    if (key.name == "attention.causal") key.only = "false";
  }
  return keys;
}

std::vector<FamilyKey> without_rope(std::vector<FamilyKey> keys) {
  std::erase_if(keys, [](const FamilyKey& key) { return key.name.starts_with("rope."); });
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
  const bool is_net = kind == "net";  // its weights are yet to be made
  if (kind == "vocab" || (source.tensors().empty() && !is_net))
    return unsupported(source, "a vocabulary without weights");
  if (s.architecture == "fovea-net")
    return make_error(ErrorCode::kUnsupported,
                      "{}: it is a net for pictures or sequences that was trained here: fovea show, capture and train "
                      "take it",
                      source.name());
  const std::vector<std::string> known = family_names();
  if (std::find(known.begin(), known.end(), s.architecture) == known.end()) {
    return problem(ErrorCode::kUnsupported, "general.architecture", "{}: architecture {} is not supported; {} are",
                   source.name(), quote(s.architecture), fmt::join(known, ", "));
  }
  const Keys keys(source, s.architecture);
  const auto a = [&keys](std::string_view key) { return keys.name(key); };
  FOVEA_ASSIGN_OR_RETURN(s.n_layers, keys.size("block_count", 1, ModelSizes::kMaxLayers));
  FOVEA_ASSIGN_OR_RETURN(s.n_ctx, keys.size("context_length", 1, ModelSizes::kMaxContext));
  FOVEA_ASSIGN_OR_RETURN(s.d_model, keys.size("embedding_length", 1, ModelSizes::kMaxWidth));
  FOVEA_ASSIGN_OR_RETURN(s.d_ff, keys.size("feed_forward_length", 1, ModelSizes::kMaxWidth));
  FOVEA_ASSIGN_OR_RETURN(s.n_heads, keys.size("attention.head_count", 1, ModelSizes::kMaxHeads));
  s.n_kv_heads = s.n_heads;
  if (keys.has("attention.head_count_kv")) {
    FOVEA_ASSIGN_OR_RETURN(s.n_kv_heads, keys.size("attention.head_count_kv", 1, s.n_heads));
  }
  if (s.n_heads % s.n_kv_heads != 0) {
    return problem(ErrorCode::kData, a("attention.head_count_kv"), "{}: {} query heads cannot share {} KV heads evenly",
                   source.name(), s.n_heads, s.n_kv_heads);
  }
  if (keys.has("attention.key_length")) {
    FOVEA_ASSIGN_OR_RETURN(s.head_dim, keys.size("attention.key_length", 2, ModelSizes::kMaxHeadDim));
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
  if (keys.has("attention.value_length")) {
    FOVEA_ASSIGN_OR_RETURN(const int64_t value_dim, keys.size("attention.value_length", 1, ModelSizes::kMaxHeadDim));
    if (value_dim != s.head_dim)
      return problem(ErrorCode::kUnsupported, a("attention.value_length"),
                     "{}: values are {} wide and keys {}; only equal widths are supported", source.name(), value_dim,
                     s.head_dim);
  }
  if (keys.has("rope.dimension_count")) {
    FOVEA_ASSIGN_OR_RETURN(const int64_t turned, keys.size("rope.dimension_count", 2, s.head_dim));
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
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    const auto none = source.get_bool(prefix + key);  // false, as of a folder that says null
    if (!none || *none) FOVEA_RETURN_IF_ERROR(float_key(source, prefix + key, 1e-3, 1e6));
  }
  FOVEA_RETURN_IF_ERROR(read_eps(keys));
  if (source.has("tokenizer.ggml.tokens") || !keys.has("vocab_size")) {
    FOVEA_ASSIGN_OR_RETURN(const auto tokens, source.get_strings("tokenizer.ggml.tokens"));
    s.vocab_size = static_cast<int64_t>(tokens.size());
    if (s.vocab_size < 1 || s.vocab_size > ModelSizes::kMaxVocab) {
      return problem(ErrorCode::kData, "tokenizer.ggml.tokens", "{}: the vocabulary has {} tokens; 1 to {} are allowed",
                     source.name(), s.vocab_size, ModelSizes::kMaxVocab);
    }
  }
  if (keys.has("vocab_size")) {
    FOVEA_ASSIGN_OR_RETURN(const int64_t n, keys.size("vocab_size", 1, ModelSizes::kMaxVocab));
    if (s.vocab_size != 0 && n != s.vocab_size)
      return problem(ErrorCode::kData, a("vocab_size"), "{}: {} is {}, but the vocabulary has {} tokens", source.name(),
                     source.called(a("vocab_size")), n, s.vocab_size);
    s.vocab_size = n;
  }
  // So many layers cannot be there with so few tensors; what follows may loop over them.
  if (!is_net && s.n_layers > static_cast<int64_t>(source.tensors().size())) {
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
  const Keys keys(source, s.architecture);
  const FamilyInfo& family = family_registry().at(s.architecture);
  FOVEA_ASSIGN_OR_RETURN(const double eps, read_eps(keys));
  config.norm_eps = static_cast<float>(eps);
  FOVEA_ASSIGN_OR_RETURN(config.decoder.activation, read_activation(keys, family.traits.activation));
  FOVEA_RETURN_IF_ERROR(read_ropes(keys, s, family.traits, config));
  FOVEA_RETURN_IF_ERROR(refuse_unknown_keys(source, s.architecture));
  if (family.configure) FOVEA_RETURN_IF_ERROR(family.configure(keys, config));
  return config;
}

}  // namespace fovea::models
