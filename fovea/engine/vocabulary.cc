#include "fovea/engine/vocabulary.h"

#include <algorithm>

#include "fovea/base/bytes.h"
#include "fovea/base/log.h"
#include "fovea/tokenizers/pretokenize.h"

namespace fovea::engine {
namespace {

using formats::Gguf;
using tokenizers::Tokenizer;
using tokenizers::TokenType;
using tokenizers::Vocabulary;

constexpr const char* kPrefix = "tokenizer.ggml.";

Result<int32_t> read_id(const Gguf& gguf, const char* name, size_t n_tokens) {
  const std::string key = fmt::format("{}{}_token_id", kPrefix, name);
  if (!gguf.has(key)) return -1;
  FOVEA_ASSIGN_OR_RETURN(const uint64_t id, gguf.get_u64(key));
  if (id < n_tokens) return static_cast<int32_t>(id);
  Error error = make_error(ErrorCode::kData, "{}: key {} is {}; the vocabulary has {} tokens", gguf.name(), quoted(key),
                           id, n_tokens);
  error.where = key;
  return error;
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
      Error error = make_error(ErrorCode::kData, "{}: key {}: token {} has type {}; 0 to 6 are known", gguf.name(),
                               quoted(key), i, types[i]);
      error.where = key;
      return error;
    }
    v.types.push_back(static_cast<TokenType>(types[i]));
  }
  return {};
}

// Chat models end a turn with one of these; not every file says which.
int32_t find_end_of_turn(const Vocabulary& v) {
  for (const std::string_view name : {"<|im_end|>", "<|eot_id|>", "<|endoftext|>"}) {
    for (size_t i = 0; i < v.tokens.size(); ++i) {
      const bool control = !v.types.empty() && v.types.size() == v.tokens.size() && v.types[i] == TokenType::kControl;
      if (control && v.tokens[i] == name && static_cast<int32_t>(i) != v.eos) return static_cast<int32_t>(i);
    }
  }
  return -1;
}

}  // namespace

Result<Vocabulary> read_vocabulary(const Gguf& gguf, std::vector<std::string>* warnings) {
  const std::string prefix = kPrefix;
  Vocabulary v;
  v.name = gguf.name();
  FOVEA_ASSIGN_OR_RETURN(v.kind, gguf.get_string(prefix + "model"));
  if (v.kind == "gpt2") {  // other kinds are refused by name below, whatever keys they have
    FOVEA_ASSIGN_OR_RETURN(v.pre, gguf.get_string(prefix + "pre"));
    FOVEA_ASSIGN_OR_RETURN(v.merges, gguf.get_strings(prefix + "merges"));
  }
  FOVEA_ASSIGN_OR_RETURN(v.tokens, gguf.get_strings(prefix + "tokens"));
  FOVEA_RETURN_IF_ERROR(read_types(gguf, v));
  if (gguf.has(prefix + "scores")) {  // of no use here, but a file that contradicts itself is not to be trusted
    FOVEA_ASSIGN_OR_RETURN(const auto scores, gguf.get_f64s(prefix + "scores"));
    if (scores.size() != v.tokens.size()) {
      return Error{ErrorCode::kData,
                   fmt::format("{}: key {}: {} scores for {} tokens", gguf.name(), quoted(prefix + "scores"),
                               scores.size(), v.tokens.size()),
                   prefix + "scores"};
    }
  }
  int32_t unused = -1;
  const std::pair<const char*, int32_t*> ids[] = {
      {"bos", &v.bos},         {"eos", &v.eos},         {"eot", &v.eot},        {"eom", &v.eom},
      {"unknown", &v.unknown}, {"padding", &v.padding}, {"seperator", &unused},  // the format's own spelling
      {"mask", &unused}};
  for (const auto& [name, id] : ids) {
    FOVEA_ASSIGN_OR_RETURN(*id, read_id(gguf, name, v.tokens.size()));
  }
  const tokenizers::PreTokenizer* pre = tokenizers::find_pre_tokenizer(v.pre);
  FOVEA_ASSIGN_OR_RETURN(v.add_bos, read_flag(gguf, "add_bos_token", pre && pre->adds_bos));
  FOVEA_ASSIGN_OR_RETURN(v.add_eos, read_flag(gguf, "add_eos_token", false));
  if (v.eot < 0) v.eot = find_end_of_turn(v);
  const auto warn = [&](std::string_view what) {
    if (warnings) {
      warnings->push_back(fmt::format("{}: {}", gguf.name(), what));
    } else {
      log_warning("{}: {}", gguf.name(), what);
    }
  };
  if (v.eos < 0 && v.eot < 0) warn("no token ends a text: answers stop at their greatest length");
  if (v.add_bos && v.bos < 0) warn("a token is to begin each text, but the file does not say which");
  return v;
}

Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const Gguf& gguf, std::vector<std::string>* warnings) {
  FOVEA_ASSIGN_OR_RETURN(const Vocabulary v, read_vocabulary(gguf, warnings));
  auto tokenizer = Tokenizer::create(v);
  if (!tokenizer) {
    Error& error = tokenizer.error();
    if (!error.where.empty()) error.where = kPrefix + error.where;
    return error;
  }
  FOVEA_RETURN_IF_ERROR(gguf.check_intact());
  return tokenizer;
}

}  // namespace fovea::engine
