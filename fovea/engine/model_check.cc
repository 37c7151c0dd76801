#include "fovea/engine/model_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "fovea/base/bytes.h"
#include "fovea/formats/weight_scan.h"
#include "fovea/models/family.h"
#include "fovea/models/support/weights.h"

namespace fovea::engine {
namespace {

using formats::Gguf;

template <typename... Args>
Error problem(ErrorCode code, const std::string& where, fmt::format_string<Args...> format, Args&&... args) {
  return Error{code, fmt::format(format, std::forward<Args>(args)...), where};
}

void check_tensors(const Gguf& gguf, std::vector<Error>& out) {
  Result<models::Config> config = models::read_config(gguf);
  if (!config) return out.push_back(config.error());
  const auto family = models::make_family(*config);
  for (const models::WeightSpec& want : family->weights()) {
    if (Status status = models::check_weight(gguf, want); !status) out.push_back(status.error());
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
    return out.push_back(problem(ErrorCode::kData, key, "{}: key {}: merge {} {} {}", gguf.name(), fovea::quoted(key),
                                 i, fovea::quoted(merge), why));
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
    out.push_back(problem(ErrorCode::kData, prefix + "tokens", "{}: token {} is {} bytes long; {} are allowed",
                          gguf.name(), i, tokens.value()[i].size(), kMaxTokenBytes));
    break;
  }
  if (gguf.has(prefix + "token_type")) {
    const auto types = gguf.get_i64s(prefix + "token_type");
    if (!types) return out.push_back(types.error());
    if (types.value().size() != n)
      out.push_back(problem(ErrorCode::kData, prefix + "token_type", "{}: {} token types for {} tokens", gguf.name(),
                            types.value().size(), n));
    const auto bad =
        std::find_if(types.value().begin(), types.value().end(), [](int64_t type) { return type < 0 || type > 6; });
    if (bad != types.value().end())
      out.push_back(problem(ErrorCode::kData, prefix + "token_type", "{}: token {} has type {}; 0 to 6 are known",
                            gguf.name(), bad - types.value().begin(), *bad));
  }
  if (gguf.has(prefix + "scores")) {
    const auto scores = gguf.get_f64s(prefix + "scores");
    if (!scores) return out.push_back(scores.error());
    if (scores.value().size() != n)
      out.push_back(problem(ErrorCode::kData, prefix + "scores", "{}: {} scores for {} tokens", gguf.name(),
                            scores.value().size(), n));
  }
  const auto kind = gguf.get_string(prefix + "model");
  if (!kind) return out.push_back(kind.error());
  if (kind.value() == "gpt2") check_merges(gguf, tokens.value(), out);
  for (const char* name : {"bos", "eos", "eot", "eom", "unknown", "padding", "seperator",
                           "mask"}) {  // "seperator" is how the format spells it
    const std::string key = fmt::format("{}{}_token_id", prefix, name);
    if (!gguf.has(key)) continue;
    const auto id = gguf.get_u64(key);
    if (!id) {
      out.push_back(id.error());
    } else if (id.value() >= n) {
      out.push_back(problem(ErrorCode::kData, key, "{}: key {} is {}; the vocabulary has {} tokens", gguf.name(),
                            fovea::quoted(key), id.value(), n));
    }
  }
}

void check_weights(const Gguf& gguf, std::vector<Error>& out) {
  for (const auto& tensor : gguf.tensors()) {
    const uint64_t bad = formats::count_non_finite(tensor);
    if (bad == 0) continue;
    const bool blocks = kernels::dtype_info(tensor.dtype).block_elements > 1;
    out.push_back(problem(ErrorCode::kData, "tensor " + tensor.name, "{}: tensor {} has {} {} NaN or Inf", gguf.name(),
                          tensor.name, bad, blocks ? "blocks with a scale that is" : "values that are"));
  }
}

}  // namespace

std::vector<Error> check_model(const Gguf& gguf, const CheckOptions& options) {
  std::vector<Error> out;
  if (options.strict) {
    for (const std::string& warning : gguf.warnings()) out.push_back(Error{ErrorCode::kData, warning, gguf.name()});
  }
  if (options.strict && !gguf.has("tokenizer.ggml.eos_token_id") && !gguf.has("tokenizer.ggml.eot_token_id")) {
    out.push_back(problem(ErrorCode::kData, "tokenizer.ggml.eos_token_id",
                          "{}: no token ends a text: neither eos nor eot is set", gguf.name()));
  }
  if (const auto sizes = read_sizes(gguf)) {
    check_tensors(gguf, out);
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
