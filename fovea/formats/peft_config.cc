#include "fovea/formats/peft_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "fovea/base/bytes.h"
#include "fovea/formats/lora_file.h"

namespace fovea::formats {
namespace {

using Json = nlohmann::ordered_json;

// Read here, or without meaning once the weights are trained.
constexpr std::string_view kKnown[] = {"r",
                                       "lora_alpha",
                                       "use_rslora",
                                       "rank_pattern",
                                       "alpha_pattern",
                                       "peft_type",
                                       "bias",
                                       "init_lora_weights",
                                       "task_type",
                                       "auto_mapping",
                                       "base_model_name_or_path",
                                       "revision",
                                       "inference_mode",
                                       "lora_dropout",
                                       "target_modules",
                                       "exclude_modules",
                                       "layers_to_transform",
                                       "layers_pattern",
                                       "fan_in_fan_out",  // of a and b nothing is turned
                                       "peft_version",
                                       "megatron_core",
                                       "loftq_config",
                                       "eva_config",
                                       "corda_config",
                                       "lora_ga_config",
                                       "qalora_group_size",
                                       "runtime_config"};
// Why a field that asks for something is refused, where its name does not say it.
constexpr std::pair<std::string_view, std::string_view> kWhy[] = {
    {"modules_to_save", "weights saved whole, in place of the model's"},
    {"use_dora", "DoRA, whose magnitudes need the weights themselves"},
    {"lora_bias", "biases beside the pairs"},
    {"layer_replication", "layers that stand more than once"},
    {"target_parameters", "parameters that no module of their own multiplies with"},
    {"trainable_token_indices", "rows of an embedding in place of the model's"},
    {"alora_invocation_tokens", "an adapter that begins in the middle of a text"}};
// Ways to begin that leave the model's own weights as they are. The others (pissa, olora, corda, loftq) take from them
// what a and b begin with, and the files do not hold the rest.
constexpr std::string_view kInits[] = {"gaussian", "eva", "orthogonal"};

bool is_off(const Json& value) {
  return value.is_null() || value == false || value == 0 ||
         ((value.is_structured() || value.is_string()) && value.empty()) ||
         (value.is_string() && value.get_ref<const std::string&>().empty());
}

Error refused(const std::string& name, std::string_view field, const std::string& what) {
  return {ErrorCode::kUnsupported, fmt::format("{}: {}: {}", name, quote(field), what), std::string(field)};
}
Error wrong(const std::string& name, std::string_view field, const std::string& what) {
  return {ErrorCode::kData, fmt::format("{}: {}: {}", name, quote(field), what), std::string(field)};
}

Result<double> number(const Json& json, const char* field, double otherwise, double least, double most,
                      const std::string& name) {
  const auto it = json.find(field);
  if (it == json.end() || it->is_null()) return otherwise;
  const double value = it->is_number() ? it->get<double>() : NAN;
  if (value >= least && value <= most) return value;
  return wrong(name, field, fmt::format("it is {}; a number in {} to {} is needed", quote(it->dump()), least, most));
}

Result<bool> flag(const Json& json, const char* field, const std::string& name) {
  const auto it = json.find(field);
  if (it == json.end() || it->is_null()) return false;
  if (!it->is_boolean()) return wrong(name, field, fmt::format("it is {}; true or false", quote(it->dump())));
  return it->get<bool>();
}

}  // namespace

Result<PeftConfig::Pattern> PeftConfig::read_pattern(const Json& json, const char* field, const std::string& name) {
  Pattern out;
  const auto it = json.find(field);
  if (it == json.end() || it->is_null()) return out;
  if (!it->is_object()) return wrong(name, field, "it is no object of names and numbers");
  for (const auto& [key, value] : it->items()) {
    const std::string_view plain = std::string_view(key).substr(key.starts_with('^') ? 1 : 0);
    const bool is_name = !plain.empty() && std::all_of(plain.begin(), plain.end(), [](unsigned char c) {
      return std::isalnum(c) || c == '_' || c == '.' || c == '-';
    });
    if (!is_name)
      return refused(name, field, fmt::format("{} is a regular expression; names of modules are read", quote(key)));
    const double number = value.is_number() ? value.get<double>() : NAN;
    if (!(number >= -1e6 && number <= 1e6))
      return wrong(name, field, fmt::format("{} has {}, which is no number", quote(key), quote(value.dump())));
    out.emplace_back(key, number);
  }
  return out;
}

double PeftConfig::value_of(const Pattern& pattern, std::string_view module, double otherwise) {
  for (const auto& [key, value] : pattern) {
    std::string_view wanted = key;
    const bool whole = wanted.starts_with('^');
    if (whole) wanted.remove_prefix(1);
    if (!module.ends_with(wanted)) continue;
    const size_t before = module.size() - wanted.size();
    if (before == 0 || (!whole && module[before - 1] == '.')) return value;
  }
  return otherwise;
}

Result<PeftConfig> PeftConfig::read(const Json& json, const std::string& name) {
  PeftConfig out;
  out.name_ = name;
  const auto type = json.find("peft_type");
  if (type == json.end() || *type != "LORA")
    return refused(name, "peft_type",
                   fmt::format("it is {}; LORA is read", type == json.end() ? "missing" : quote(type->dump())));
  for (const auto& [field, value] : json.items()) {
    if (is_off(value) || std::find(std::begin(kKnown), std::end(kKnown), field) != std::end(kKnown)) continue;
    const auto why = std::find_if(std::begin(kWhy), std::end(kWhy),
                                  [&field = field](const auto& one) { return one.first == field; });
    const std::string shown = quote(value.dump());
    return refused(name, field,
                   why == std::end(kWhy) ? fmt::format("it is {}, and not known here", shown)
                                         : fmt::format("it is {}: {}", shown, why->second));
  }
  if (const auto bias = json.find("bias"); bias != json.end() && !bias->is_null() && *bias != "none")
    return refused(name, "bias", fmt::format("it is {}: biases in place of the model's", quote(bias->dump())));
  if (const auto init = json.find("init_lora_weights"); init != json.end() && init->is_string()) {
    const auto& way = init->get_ref<const std::string&>();
    if (std::find(std::begin(kInits), std::end(kInits), way) == std::end(kInits))
      return refused(name, "init_lora_weights",
                     fmt::format("it is {}, which changes the model's own weights; save it converted to a plain LoRA",
                                 quote(way)));
  }
  FOVEA_ASSIGN_OR_RETURN(out.rank_, number(json, "r", 8, 1, static_cast<double>(LoraFile::kMaxRank), name));
  FOVEA_ASSIGN_OR_RETURN(out.alpha_, number(json, "lora_alpha", 8, -1e6, 1e6, name));
  FOVEA_ASSIGN_OR_RETURN(out.by_root_, flag(json, "use_rslora", name));
  FOVEA_ASSIGN_OR_RETURN(out.ranks_, read_pattern(json, "rank_pattern", name));
  FOVEA_ASSIGN_OR_RETURN(out.alphas_, read_pattern(json, "alpha_pattern", name));
  return out;
}

Result<double> PeftConfig::scale_of(std::string_view module, int64_t rank) const {
  const double expected = value_of(ranks_, module, rank_), alpha = value_of(alphas_, module, alpha_);
  const auto found = static_cast<double>(rank);
  if (expected != found)
    return wrong(name_, ranks_.empty() ? "r" : "rank_pattern",
                 fmt::format("{} has the rank {} there, and {} in the weights", quote(module), expected, rank));
  return alpha / (by_root_ ? std::sqrt(found) : found);
}

}  // namespace fovea::formats
