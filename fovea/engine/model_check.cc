#include "fovea/engine/model_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "fovea/base/bytes.h"
#include "fovea/formats/weight_scan.h"

namespace fovea::engine {
namespace {

using formats::Gguf;

template <typename... Args>
Error problem(ErrorCode code, const std::string& where, fmt::format_string<Args...> format, Args&&... args) {
  return Error{code, fmt::format(format, std::forward<Args>(args)...), where};
}

// An integer key within [min, max].
Result<int64_t> size_key(const Gguf& gguf, const std::string& key, int64_t min, int64_t max) {
  FOVEA_ASSIGN_OR_RETURN(const uint64_t n, gguf.get_u64(key));
  if (n >= static_cast<uint64_t>(min) && n <= static_cast<uint64_t>(max)) return static_cast<int64_t>(n);
  return problem(n > static_cast<uint64_t>(max) ? ErrorCode::kLimit : ErrorCode::kData, key, "{}: key {} is {}; {} to {} are allowed", gguf.name(), fovea::quoted(key), n, min, max);
}

// A float key, if there, is finite and within [min, max].
Status float_key(const Gguf& gguf, const std::string& key, double min, double max) {
  if (!gguf.has(key)) return {};
  FOVEA_ASSIGN_OR_RETURN(const double x, gguf.get_f64(key));
  if (x >= min && x <= max) return {};  // false for NaN
  return problem(ErrorCode::kData, key, "{}: key {} is {}; {} to {} are allowed", gguf.name(), fovea::quoted(key), x, min, max);
}

Error unsupported(const Gguf& gguf, std::string_view what) {
  return problem(ErrorCode::kUnsupported, "general.architecture", "{}: this is {}, not a language model", gguf.name(), what);
}

struct Expected {
  std::string name;
  std::vector<int64_t> dims;
  bool optional = false;
};

std::vector<Expected> expected_tensors(const ModelSizes& s) {
  const int64_t q = s.n_heads * s.head_dim, kv = s.n_kv_heads * s.head_dim;
  std::vector<Expected> out = {{"token_embd.weight", {s.d_model, s.vocab_size}},
                               {"output.weight", {s.d_model, s.vocab_size}, true},  // tied if absent
                               {"output_norm.weight", {s.d_model}}};
  for (int64_t layer = 0; layer < s.n_layers; ++layer) {
    const auto add = [&](const char* name, std::vector<int64_t> dims) { out.push_back({fmt::format("blk.{}.{}", layer, name), std::move(dims)}); };
    add("attn_norm.weight", {s.d_model});
    add("attn_q.weight", {s.d_model, q});
    add("attn_k.weight", {s.d_model, kv});
    add("attn_v.weight", {s.d_model, kv});
    add("attn_output.weight", {q, s.d_model});
    add("ffn_norm.weight", {s.d_model});
    add("ffn_gate.weight", {s.d_model, s.d_ff});
    add("ffn_up.weight", {s.d_model, s.d_ff});
    add("ffn_down.weight", {s.d_ff, s.d_model});
    if (s.architecture == "qwen2") {
      add("attn_q.bias", {q});
      add("attn_k.bias", {kv});
      add("attn_v.bias", {kv});
    }
    if (s.architecture == "gemma3") {
      add("attn_q_norm.weight", {s.head_dim});
      add("attn_k_norm.weight", {s.head_dim});
      add("post_attention_norm.weight", {s.d_model});
      add("post_ffw_norm.weight", {s.d_model});
    }
  }
  return out;
}

void check_tensors(const Gguf& gguf, const ModelSizes& sizes, std::vector<Error>& out) {
  for (const Expected& want : expected_tensors(sizes)) {
    const formats::TensorInfo* found = gguf.find_tensor(want.name);
    const std::string where = "tensor " + want.name;
    if (!found && want.optional) continue;
    if (!found) {
      out.push_back(problem(ErrorCode::kData, where, "{}: tensor {} is missing; it should be [{}]", gguf.name(), want.name, fmt::join(want.dims, ", ")));
    } else if (found->dims != want.dims) {
      out.push_back(problem(ErrorCode::kData, where, "{}: tensor {} is [{}], but the metadata asks for [{}]", gguf.name(), want.name, fmt::join(found->dims, ", "), fmt::join(want.dims, ", ")));
    } else if (!kernels::dtype_info(found->dtype).native) {
      out.push_back(problem(ErrorCode::kUnsupported, where, "{}: tensor {} is {}, which Fovea does not multiply with", gguf.name(), want.name, kernels::dtype_info(found->dtype).name));
    }
  }
}

void check_merges(const Gguf& gguf, const std::vector<std::string_view>& tokens, std::vector<Error>& out) {
  const std::string key = "tokenizer.ggml.merges";
  const auto merges = gguf.get_strings(key);
  if (!merges) return out.push_back(merges.error());
  const std::unordered_set<std::string_view> known(tokens.begin(), tokens.end());
  std::unordered_set<std::string_view> seen;
  for (size_t i = 0; i < merges.value().size(); ++i) {
    const std::string_view merge = merges.value()[i];
    const size_t space = merge.find(' ', 1);
    std::string why;
    if (space == merge.npos || space + 1 == merge.size()) {
      why = "is not two tokens with a space between";
    } else if (!known.count(merge.substr(0, space)) || !known.count(merge.substr(space + 1)) ||
               !known.count(std::string(merge.substr(0, space)) + std::string(merge.substr(space + 1)))) {
      why = "names a token that is not in the vocabulary";
    } else if (!seen.insert(merge).second) {
      why = "is there twice";
    }
    if (why.empty()) continue;
    return out.push_back(problem(ErrorCode::kData, key, "{}: key {}: merge {} {} {}", gguf.name(), fovea::quoted(key), i, fovea::quoted(merge), why));
  }
}

void check_vocabulary(const Gguf& gguf, std::vector<Error>& out) {
  const std::string prefix = "tokenizer.ggml.";
  const auto tokens = gguf.get_strings(prefix + "tokens");
  if (!tokens) return out.push_back(tokens.error());
  const size_t n = tokens.value().size();
  constexpr size_t kMaxTokenBytes = 64 << 10;
  for (size_t i = 0; i < n; ++i) {
    if (tokens.value()[i].size() <= kMaxTokenBytes) continue;
    out.push_back(problem(ErrorCode::kData, prefix + "tokens", "{}: token {} is {} bytes long; {} are allowed", gguf.name(), i, tokens.value()[i].size(), kMaxTokenBytes));
    break;
  }
  if (gguf.has(prefix + "token_type")) {
    const auto types = gguf.get_i64s(prefix + "token_type");
    if (!types) return out.push_back(types.error());
    if (types.value().size() != n) out.push_back(problem(ErrorCode::kData, prefix + "token_type", "{}: {} token types for {} tokens", gguf.name(), types.value().size(), n));
    const auto bad = std::find_if(types.value().begin(), types.value().end(), [](int64_t type) { return type < 0 || type > 6; });
    if (bad != types.value().end()) out.push_back(problem(ErrorCode::kData, prefix + "token_type", "{}: token {} has type {}; 0 to 6 are known", gguf.name(), bad - types.value().begin(), *bad));
  }
  if (gguf.has(prefix + "scores")) {
    const auto scores = gguf.get_f64s(prefix + "scores");
    if (!scores) return out.push_back(scores.error());
    if (scores.value().size() != n) out.push_back(problem(ErrorCode::kData, prefix + "scores", "{}: {} scores for {} tokens", gguf.name(), scores.value().size(), n));
  }
  const auto kind = gguf.get_string(prefix + "model");
  if (!kind) return out.push_back(kind.error());
  if (kind.value() == "gpt2") check_merges(gguf, tokens.value(), out);
  for (const char* name : {"bos", "eos", "eot", "eom", "unknown", "padding", "seperator", "mask"}) {  // "seperator" is how the format spells it
    const std::string key = fmt::format("{}{}_token_id", prefix, name);
    if (!gguf.has(key)) continue;
    const auto id = gguf.get_u64(key);
    if (!id) {
      out.push_back(id.error());
    } else if (id.value() >= n) {
      out.push_back(problem(ErrorCode::kData, key, "{}: key {} is {}; the vocabulary has {} tokens", gguf.name(), fovea::quoted(key), id.value(), n));
    }
  }
}

void check_weights(const Gguf& gguf, std::vector<Error>& out) {
  for (const auto& tensor : gguf.tensors()) {
    const uint64_t bad = formats::count_non_finite(tensor);
    if (bad == 0) continue;
    const bool blocks = kernels::dtype_info(tensor.dtype).block_elements > 1;
    out.push_back(problem(ErrorCode::kData, "tensor " + tensor.name, "{}: tensor {} has {} {} NaN or Inf", gguf.name(), tensor.name, bad, blocks ? "blocks with a scale that is" : "values that are"));
  }
}

}  // namespace

const std::vector<std::string>& supported_architectures() {
  static const std::vector<std::string> names = {"gemma3", "llama", "qwen2"};
  return names;
}

Result<ModelSizes> read_sizes(const Gguf& gguf) {
  ModelSizes s;
  FOVEA_ASSIGN_OR_RETURN(s.architecture, gguf.get_string("general.architecture"));
  const auto type = gguf.get_string("general.type");
  const std::string kind = type ? type.value() : "model";
  if (s.architecture == "clip" || kind == "mmproj") return unsupported(gguf, "a projector file");
  if (kind == "adapter") return unsupported(gguf, "a LoRA adapter");
  if (kind == "vocab" || gguf.tensors().empty()) return unsupported(gguf, "a vocabulary without weights");
  const auto& known = supported_architectures();
  if (std::find(known.begin(), known.end(), s.architecture) == known.end()) {
    return problem(ErrorCode::kUnsupported, "general.architecture", "{}: architecture {} is not supported; {} are", gguf.name(), fovea::quoted(s.architecture), fmt::join(known, ", "));
  }
  const std::string a = s.architecture + ".";
  FOVEA_ASSIGN_OR_RETURN(s.n_layers, size_key(gguf, a + "block_count", 1, ModelSizes::kMaxLayers));
  FOVEA_ASSIGN_OR_RETURN(s.n_ctx, size_key(gguf, a + "context_length", 1, ModelSizes::kMaxContext));
  FOVEA_ASSIGN_OR_RETURN(s.d_model, size_key(gguf, a + "embedding_length", 1, ModelSizes::kMaxWidth));
  FOVEA_ASSIGN_OR_RETURN(s.d_ff, size_key(gguf, a + "feed_forward_length", 1, ModelSizes::kMaxWidth));
  FOVEA_ASSIGN_OR_RETURN(s.n_heads, size_key(gguf, a + "attention.head_count", 1, ModelSizes::kMaxHeads));
  s.n_kv_heads = s.n_heads;
  if (gguf.has(a + "attention.head_count_kv")) {
    FOVEA_ASSIGN_OR_RETURN(s.n_kv_heads, size_key(gguf, a + "attention.head_count_kv", 1, s.n_heads));
  }
  if (s.n_heads % s.n_kv_heads != 0) {
    return problem(ErrorCode::kData, a + "attention.head_count_kv", "{}: {} query heads cannot share {} KV heads evenly", gguf.name(), s.n_heads, s.n_kv_heads);
  }
  if (gguf.has(a + "attention.key_length")) {
    FOVEA_ASSIGN_OR_RETURN(s.head_dim, size_key(gguf, a + "attention.key_length", 2, ModelSizes::kMaxHeadDim));
  } else if (s.d_model % s.n_heads != 0) {
    return problem(ErrorCode::kData, a + "attention.head_count", "{}: {} heads do not divide the width {}", gguf.name(), s.n_heads, s.d_model);
  } else {
    s.head_dim = s.d_model / s.n_heads;
  }
  if (s.head_dim % 2 != 0 || s.head_dim > ModelSizes::kMaxHeadDim) {
    return problem(ErrorCode::kData, a + "attention.key_length", "{}: heads are {} wide; an even number up to {} is allowed (positions turn pairs)", gguf.name(), s.head_dim, ModelSizes::kMaxHeadDim);
  }
  if (gguf.has(a + "attention.value_length")) {
    FOVEA_ASSIGN_OR_RETURN(const int64_t value_dim, size_key(gguf, a + "attention.value_length", 1, ModelSizes::kMaxHeadDim));
    if (value_dim != s.head_dim) return problem(ErrorCode::kUnsupported, a + "attention.value_length", "{}: values are {} wide and keys {}; only equal widths are supported", gguf.name(), value_dim, s.head_dim);
  }
  if (gguf.has(a + "rope.dimension_count")) {
    FOVEA_ASSIGN_OR_RETURN(const int64_t turned, size_key(gguf, a + "rope.dimension_count", 2, s.head_dim));
    if (turned % 2 != 0) return problem(ErrorCode::kData, a + "rope.dimension_count", "{}: {} turned dimensions per head; the number must be even", gguf.name(), turned);
  }
  // Normal positive floats: a base or an epsilon of 0, NaN or Inf would make every output NaN.
  for (const char* key : {"rope.freq_base", "rope.freq_base_swa"}) FOVEA_RETURN_IF_ERROR(float_key(gguf, a + key, 1, 1e12));
  for (const char* key : {"rope.scaling.factor", "rope.scale_linear", "logit_scale"}) FOVEA_RETURN_IF_ERROR(float_key(gguf, a + key, 1e-6, 1e6));
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) FOVEA_RETURN_IF_ERROR(float_key(gguf, a + key, 1e-3, 1e6));
  FOVEA_RETURN_IF_ERROR(float_key(gguf, a + "attention.layer_norm_rms_epsilon", 1e-20, 1));
  if (!gguf.has(a + "attention.layer_norm_rms_epsilon")) {
    return problem(ErrorCode::kData, a + "attention.layer_norm_rms_epsilon", "{}: key \"{}attention.layer_norm_rms_epsilon\" is missing", gguf.name(), a);
  }
  if (gguf.has(a + "rope.scaling.type")) {
    FOVEA_ASSIGN_OR_RETURN(const std::string scaling, gguf.get_string(a + "rope.scaling.type"));
    if (scaling != "none" && scaling != "linear" && scaling != "yarn") {
      return problem(ErrorCode::kUnsupported, a + "rope.scaling.type", "{}: rope scaling {} is not known; none, linear and yarn are", gguf.name(), fovea::quoted(scaling));
    }
  }
  FOVEA_ASSIGN_OR_RETURN(const auto tokens, gguf.get_strings("tokenizer.ggml.tokens"));
  s.vocab_size = static_cast<int64_t>(tokens.size());
  if (s.vocab_size < 1 || s.vocab_size > ModelSizes::kMaxVocab) {
    return problem(ErrorCode::kData, "tokenizer.ggml.tokens", "{}: the vocabulary has {} tokens; 1 to {} are allowed", gguf.name(), s.vocab_size, ModelSizes::kMaxVocab);
  }
  // So many layers cannot be there with so few tensors; what follows may loop over them.
  if (s.n_layers > static_cast<int64_t>(gguf.tensors().size())) {
    return problem(ErrorCode::kData, a + "block_count", "{}: {} layers, but the file has only {} tensors", gguf.name(), s.n_layers, gguf.tensors().size());
  }
  return s;
}

std::vector<Error> check_model(const Gguf& gguf, const CheckOptions& options) {
  std::vector<Error> out;
  if (options.strict) {
    for (const std::string& warning : gguf.warnings()) out.push_back(Error{ErrorCode::kData, warning, gguf.name()});
  }
  if (options.strict && !gguf.has("tokenizer.ggml.eos_token_id") && !gguf.has("tokenizer.ggml.eot_token_id")) {
    out.push_back(problem(ErrorCode::kData, "tokenizer.ggml.eos_token_id", "{}: no token ends a text: neither eos nor eot is set", gguf.name()));
  }
  if (const auto sizes = read_sizes(gguf)) {
    check_tensors(gguf, sizes.value(), out);
    check_vocabulary(gguf, out);
  } else {
    out.push_back(sizes.error());
  }
  if (options.weights) check_weights(gguf, out);
  if (const Status intact = gguf.check_intact(); !intact) out.push_back(intact.error());
  for (Error& error : out) {
    if (error.where.empty()) error.where = gguf.name();
  }
  return out;
}

}  // namespace fovea::engine
