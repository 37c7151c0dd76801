#include "fovea/engine/model_check.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/engine/chat.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/formats/weight_scan.h"
#include "fovea/models/support/weights.h"

namespace fovea::engine {
namespace {

using formats::Gguf;

// The prompt that `run` would make of a word. A file without a template runs raw prompts.
Status check_template(const Gguf& gguf, const tokenizers::Tokenizer& tokenizer) {
  const auto prompt = encode_chat(gguf, tokenizer, {{{"role", "user"}, {"content", "Hello"}}});
  return prompt || prompt.error().code == ErrorCode::kNotFound ? Status() : prompt.error();
}

void check_values(const Gguf& gguf, std::vector<Error>& out) {
  for (const auto& tensor : gguf.tensors()) {
    const uint64_t bad = formats::count_non_finite(tensor);
    if (bad == 0) continue;
    const bool blocks = kernels::dtype_info(tensor.dtype).block_elements > 1;
    out.push_back({ErrorCode::kData,
                   fmt::format("{}: tensor {} has {} {} NaN or Inf", gguf.name(), tensor.name, bad,
                               blocks ? "blocks with a scale that is" : "values that are"),
                   "tensor " + tensor.name});
  }
}

}  // namespace

CheckReport check_model(const Gguf& gguf, const CheckOptions& options) {
  CheckReport report{.problems = {}, .warnings = gguf.warnings()};
  std::vector<Error>& out = report.problems;
  const auto family = models::make_family(gguf);
  if (family) {
    out = models::bind_weights(gguf, *family.value());
  } else {
    out.push_back(family.error());
  }
  if (read_sizes(gguf)) {  // else it is no model of a kind known here, and its vocabulary may be of any kind
    const auto tokenizer = load_tokenizer(gguf, &report.warnings);
    if (!tokenizer) {
      out.push_back(tokenizer.error());
    } else if (const Status good = check_template(gguf, *tokenizer.value()); !good) {
      out.push_back(good.error());
    }
  }
  if (options.strict) {
    for (const std::string& warning : report.warnings) out.push_back(Error{ErrorCode::kData, warning, gguf.name()});
  }
  if (options.weights) check_values(gguf, out);
  if (const Status intact = gguf.check_intact(); !intact) out.push_back(intact.error());
  for (Error& error : out) {
    if (error.where.empty()) error.where = gguf.name();
  }
  return report;
}

}  // namespace fovea::engine
