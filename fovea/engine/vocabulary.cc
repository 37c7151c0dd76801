#include "fovea/engine/vocabulary.h"

#include <algorithm>

#include "fovea/base/bytes.h"
#include "fovea/base/log.h"

namespace fovea::engine {
namespace {

using formats::ModelSource;
using tokenizers::Tokenizer;
using tokenizers::TokenType;
using tokenizers::Vocabulary;

constexpr const char* kPrefix = "tokenizer.ggml.";  // of the keys of a vocabulary

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

Result<Vocabulary> read_vocabulary(const ModelSource& source, std::vector<std::string>* warnings) {
  FOVEA_ASSIGN_OR_RETURN(Vocabulary v, source.vocabulary());
  if (v.eot < 0) v.eot = find_end_of_turn(v);
  const auto warn = [&](std::string_view what) {
    if (warnings) {
      warnings->push_back(fmt::format("{}: {}", source.name(), what));
    } else {
      log_warning("{}: {}", source.name(), what);
    }
  };
  if (v.eos < 0 && v.eot < 0) warn("no token ends a text: answers stop at their greatest length");
  if (v.add_bos && v.bos < 0) warn("a token is to begin each text, but the file does not say which");
  return v;
}

Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const ModelSource& source, std::vector<std::string>* warnings) {
  FOVEA_ASSIGN_OR_RETURN(const Vocabulary v, read_vocabulary(source, warnings));
  auto tokenizer = Tokenizer::create(v);
  if (!tokenizer) {
    Error& error = tokenizer.error();
    if (!error.where.empty()) error.where = kPrefix + error.where;
    return error;
  }
  FOVEA_RETURN_IF_ERROR(source.check_intact());
  return tokenizer;
}

}  // namespace fovea::engine
