#include "fovea/engine/model.h"
#include "fovea/engine/vocabulary.h"

namespace fovea::engine {

Result<std::shared_ptr<const tokenizers::Tokenizer>> Model::tokenizer() const {
  std::call_once(tokenizer_once_, [this] { tokenizer_ = load_tokenizer(*source_); });
  return *tokenizer_;
}

}  // namespace fovea::engine
