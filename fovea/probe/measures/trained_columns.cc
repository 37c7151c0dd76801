#include "fovea/probe/measures/trained_columns.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/base/json.h"
#include "fovea/models/support/weights.h"

namespace fovea::probe {
namespace {

struct Trained {
  const char *column, *tensor;
};
constexpr Trained kDuoGate{"duo_gate", "duo-attention.gate"};
[[maybe_unused]] const bool duo_gate_registered =
    register_column(kDuoGate.column, {.of = attention::Granularity::kKvHead,
                                      .help = "DuoAttention's gate, 0 to 1; trained, not measured: docs/train.md",
                                      .trained = true});

}  // namespace

Result<std::string> with_trained_columns(const FoundProfile& profile, const formats::ModelSource& trained) {
  attention::HeadProfile heads = *profile.heads;
  tensor::Weight weight;
  const tensor::Parameter wanted{.name = kDuoGate.tensor,
                                 .hf_name = kDuoGate.tensor,
                                 .shape = {heads.n_kv_heads, heads.n_layers},
                                 .target = &weight,
                                 .optional = true};
  FOVEA_ASSIGN_OR_RETURN(const auto found, models::find_weight(trained, wanted));
  if (!found) {
    return make_error(ErrorCode::kData, "{}: it has no tensor {}; fovea train makes one (docs/train.md)",
                      trained.name(), kDuoGate.tensor);
  }
  weight.view = {.dtype = found->dtype, .rows = heads.n_layers, .cols = heads.n_kv_heads, .data = found->data.data()};
  const tensor::Tensor gates = tensor::weight_values(weight);
  set_column(heads, kDuoGate.column, {gates.values().begin(), gates.values().end()});
  FOVEA_ASSIGN_OR_RETURN(const nlohmann::ordered_json json, parse_json(profile.json, profile.name));
  return profile_json(heads, json.value("measured", nlohmann::ordered_json::object()));
}

}  // namespace fovea::probe
