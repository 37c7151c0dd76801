#include "fovea/engine/vocabulary.h"

#include "fovea/base/bytes.h"
#include "fovea/base/log.h"
#include "fovea/models/family.h"
#include "fovea/models/support/weights.h"

namespace fovea::engine {
namespace {

using formats::ModelSource;
using tokenizers::Tokenizer;
using tokenizers::Vocabulary;

constexpr const char* kPrefix = "tokenizer.ggml.";  // of the keys of a vocabulary

bool is_encoder(const ModelSource& source) {
  const auto family = models::make_family(source);
  return family && !(*family)->makes_text();
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const ModelSource& source, std::vector<std::string>* warnings) {
  FOVEA_ASSIGN_OR_RETURN(const Vocabulary v, source.vocabulary());
  auto tokenizer = Tokenizer::create(v);
  if (!tokenizer) {
    Error& error = tokenizer.error();
    if (!error.where.empty() && v.kind != "files") error.where = kPrefix + error.where;
    return error;
  }
  const auto warn = [&](std::string_view what) {
    if (warnings) {
      warnings->push_back(fmt::format("{}: {}", source.name(), what));
    } else {
      log_warning("{}: {}", source.name(), what);
    }
  };
  if (!(*tokenizer)->has_end() && !is_encoder(source))
    warn("no token ends a text: answers stop at their greatest length");
  if (v.add_bos && v.bos < 0) warn("a token is to begin each text, but the file does not say which");
  FOVEA_RETURN_IF_ERROR(source.check_intact());
  return tokenizer;
}

}  // namespace fovea::engine
