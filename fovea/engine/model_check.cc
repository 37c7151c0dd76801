#include "fovea/engine/model_check.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "fovea/attention/pipeline.h"
#include "fovea/engine/chat.h"
#include "fovea/engine/method_weights.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/formats/weight_scan.h"
#include "fovea/models/support/weights.h"

namespace fovea::engine {
namespace {

using formats::ModelSource;

// The prompt that `run` would make of a word. A file without a template runs raw prompts.
Status check_template(const ModelSource& source, const tokenizers::Tokenizer& tokenizer) {
  const auto prompt = encode_chat(source, tokenizer, {{{"role", "user"}, {"content", "Hello"}}});
  return prompt || prompt.error().code == ErrorCode::kNotFound ? Status() : prompt.error();
}

void check_values(const ModelSource& source, std::vector<Error>& out) {
  for (const auto& tensor : source.tensors()) {
    const uint64_t bad = formats::count_non_finite(tensor) + source.count_bad_scales(tensor);
    if (bad == 0) continue;
    const bool blocks = kernels::dtype_info(tensor.dtype).block_elements > 1;
    out.push_back({ErrorCode::kData,
                   fmt::format("{}: tensor {} has {} {} NaN or Inf", source.name(), tensor.name, bad,
                               blocks ? "blocks with a scale that is" : "values that are"),
                   "tensor " + tensor.name});
  }
}

// Weights under a method's name, as they would be bound where it runs with the knobs it has by default.
void check_method_weights(const ModelSource& source, const attention::ModelShape& shape, std::vector<Error>& out) {
  for (const std::string& method : methods_with_weights(source)) {
    const auto pipeline = attention::Pipeline::parse(method, shape);
    if (!pipeline) continue;  // it wants a profile, or knobs
    if (const Status bound = bind_method_weights(source, *pipeline); !bound) out.push_back(bound.error());
  }
}

}  // namespace

CheckReport check_model(const ModelSource& source, const CheckOptions& options) {
  CheckReport report{.problems = {}, .warnings = source.warnings()};
  std::vector<Error>& out = report.problems;
  const auto family = models::make_family(source);
  if (family) {
    out = models::bind_weights(source, *family.value());
    check_method_weights(source, family.value()->config().shape, out);
  } else {
    out.push_back(family.error());
  }
  if (read_sizes(source)) {  // else it is no model of a kind known here, and its vocabulary may be of any kind
    const auto tokenizer = load_tokenizer(source, &report.warnings);
    if (!tokenizer) {
      out.push_back(tokenizer.error());
    } else if (const Status good = check_template(source, *tokenizer.value()); !good) {
      out.push_back(good.error());
    }
  }
  if (options.strict) {
    for (const std::string& warning : report.warnings) out.push_back(Error{ErrorCode::kData, warning, source.name()});
  }
  if (options.weights) check_values(source, out);
  if (const Status intact = source.check_intact(); !intact) out.push_back(intact.error());
  for (Error& error : out) {
    if (error.where.empty()) error.where = source.name();
  }
  return report;
}

}  // namespace fovea::engine
