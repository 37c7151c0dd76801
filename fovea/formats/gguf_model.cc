// What a GGUF file says of a language model in words of its own: vocabulary, blocks.
#include <charconv>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/formats/gguf.h"
#include "fovea/tokenizers/pretokenize.h"

namespace fovea::formats {
namespace {

using tokenizers::TokenType;
using tokenizers::Vocabulary;

constexpr const char* kPrefix = "tokenizer.ggml.";

template <typename... Args>
Error problem(const std::string& key, fmt::format_string<Args...> format, Args&&... args) {
  return Error{ErrorCode::kData, fmt::format(format, std::forward<Args>(args)...), key};
}

Result<int32_t> read_id(const Gguf& gguf, const char* name, size_t n_tokens) {
  const std::string key = fmt::format("{}{}_token_id", kPrefix, name);
  if (!gguf.has(key)) return -1;
  FOVEA_ASSIGN_OR_RETURN(const uint64_t id, gguf.get_u64(key));
  if (id < n_tokens) return static_cast<int32_t>(id);
  return problem(key, "{}: key {} is {}; the vocabulary has {} tokens", gguf.name(), quote(key), id, n_tokens);
}

Result<bool> read_flag(const Gguf& gguf, const std::string& name, bool otherwise) {
  const std::string key = kPrefix + name;
  if (!gguf.has(key)) return otherwise;
  return gguf.get_bool(key);
}

Status read_types(const Gguf& gguf, Vocabulary& v) {
  const std::string key = fmt::format("{}token_type", kPrefix);
  if (!gguf.has(key)) return {};
  FOVEA_ASSIGN_OR_RETURN(const auto types, gguf.get_i64s(key));
  v.types.reserve(types.size());
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] < 0 || types[i] > static_cast<int64_t>(TokenType::kByte)) {
      return problem(key, "{}: key {}: token {} has type {}; 0 to 6 are known", gguf.name(), quote(key), i, types[i]);
    }
    v.types.push_back(static_cast<TokenType>(types[i]));
  }
  return {};
}

}  // namespace

bool Gguf::has_vocabulary() const {
  const std::string kind = text_of(std::string(kPrefix) + "model");
  return kind != "no_vocab" && kind != "none" && (!kind.empty() || has(std::string(kPrefix) + "tokens"));
}

Result<Vocabulary> Gguf::vocabulary() const {
  const std::string prefix = kPrefix;
  Vocabulary v;
  v.name = name();
  FOVEA_ASSIGN_OR_RETURN(v.kind, get_string(prefix + "model"));
  if (v.kind == "gpt2") {  // the others have no such keys, or do not mean them
    FOVEA_ASSIGN_OR_RETURN(v.pre, get_string(prefix + "pre"));
    FOVEA_ASSIGN_OR_RETURN(v.merges, get_strings(prefix + "merges"));
  }
  FOVEA_ASSIGN_OR_RETURN(v.tokens, get_strings(prefix + "tokens"));
  FOVEA_RETURN_IF_ERROR(read_types(*this, v));
  if (const std::string key = prefix + "scores"; has(key)) {
    FOVEA_ASSIGN_OR_RETURN(const auto scores, get_f64s(key));
    if (scores.size() != v.tokens.size())
      return problem(key, "{}: key {}: {} scores for {} tokens", name(), quote(key), scores.size(), v.tokens.size());
    v.scores.assign(scores.begin(), scores.end());
  }
  if (const std::string key = prefix + "precompiled_charsmap"; has(key)) {
    FOVEA_ASSIGN_OR_RETURN(v.charsmap, get_bytes(key));
  }
  int32_t unused = -1, cls = -1;
  const std::pair<const char*, int32_t*> ids[] = {
      {"bos", &v.bos},   {"eos", &v.eos},         {"eot", &v.eot},
      {"eom", &v.eom},   {"unknown", &v.unknown}, {"padding", &v.padding},
      {"mask", &unused}, {"cls", &cls},           {"seperator", &v.separator}};  // the format's own spelling
  for (const auto& [name, id] : ids) {
    FOVEA_ASSIGN_OR_RETURN(*id, read_id(*this, name, v.tokens.size()));
  }
  // What holds where the file does not say, by kind.
  const tokenizers::PreTokenizer* pre = tokenizers::find_pre_tokenizer(v.pre);
  const bool llama = v.kind == "llama", bert = v.kind == "bert", t5 = v.kind == "t5";
  if (bert && v.bos < 0) v.bos = cls;
  if (bert && v.separator < 0) v.separator = v.eos;
  FOVEA_ASSIGN_OR_RETURN(v.add_bos, read_flag(*this, "add_bos_token", llama || bert || (pre && pre->adds_bos)));
  FOVEA_ASSIGN_OR_RETURN(v.add_eos, read_flag(*this, "add_eos_token", t5));
  FOVEA_ASSIGN_OR_RETURN(v.add_space_prefix, read_flag(*this, "add_space_prefix", llama || t5));
  FOVEA_ASSIGN_OR_RETURN(v.remove_extra_whitespaces, read_flag(*this, "remove_extra_whitespaces", false));
  return v;
}

int64_t Gguf::block_of(std::string_view tensor) const {
  constexpr std::string_view kBlock = "blk.";
  if (!tensor.starts_with(kBlock)) return -1;
  int64_t block = -1;
  const char *begin = tensor.data() + kBlock.size(), *end = tensor.data() + tensor.size();
  const auto [after, error] = std::from_chars(begin, end, block);
  return error == std::errc() && after < end && *after == '.' ? block : -1;
}

}  // namespace fovea::formats
