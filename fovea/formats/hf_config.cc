#include "fovea/formats/hf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "fovea/base/bytes.h"
#include "fovea/formats/hf_words.h"

namespace fovea::formats {
namespace {

using Json = nlohmann::ordered_json;

// Said by the tensors, by other fields, or of no weight in what is computed.
constexpr std::string_view kUnsaid[] = {"attention.value_length",     "attention.causal",      "rope.scaling.finetuned",
                                        "expert_feed_forward_length", "tensor_data_layout",    "pooling_type",
                                        "decoder_block_count",        "decoder_start_token_id"};

bool lists(std::string_view words, std::string_view word) {
  for (size_t at = words.find(word); at != words.npos; at = words.find(word, at + 1)) {
    const bool begins = at == 0 || words[at - 1] == ' ', ends = at + word.size() == words.size();
    if (begins && (ends || words[at + word.size()] == ' ')) return true;
  }
  return false;
}

// The word for `key` in files of an architecture; null: there is none.
const HfRow* row_for(std::string_view key, std::string_view architecture) {
  const HfRow* common = nullptr;
  for (const HfRow& row : kHfRows) {
    if (row.key != key) continue;
    if (lists(row.of, architecture)) return &row;
    if (row.of.empty() && !common) common = &row;
  }
  return common;
}

class Writer {
 public:
  Writer(const KeyMap& keys, const std::string& name) : keys_(keys), name_(name) {}

  Result<Json> run() {
    FOVEA_ASSIGN_OR_RETURN(architecture_, keys_.get_string("general.architecture"));
    const HfType* type = type_of(architecture_);
    if (!type)
      return Error{ErrorCode::kUnsupported,
                   fmt::format("{}: there is no model_type for the architecture {}", name_, quote(architecture_)),
                   "general.architecture"};
    out_["architectures"] = Json::array({type->class_name});
    out_["model_type"] = type->model_type;
    said_.insert("general.architecture");
    put_rope();
    for (const std::string& key : keys_.keys_under("")) {
      if (said_.count(key)) continue;
      const HfRow* row = row_for(key, architecture_);
      if (row) {
        out_[std::string(row->field)] = as_class_has_it(*row, *keys_.find(key));
      } else if (std::find(std::begin(kUnsaid), std::end(kUnsaid), key) == std::end(kUnsaid)) {
        return Error{ErrorCode::kUnsupported,
                     fmt::format("{}: key {} has no word in the config.json of {}", name_,
                                 quote(architecture_ + "." + key), type->model_type),
                     architecture_ + "." + key};
      }
    }
    put_absent();
    return std::move(out_);
  }

 private:
  double number(std::string_view key) const {
    const auto value = keys_.get_f64(key);
    return value ? *value : 0;
  }

  // GGUF holds it as a float; transformers 5 refuses a float where its class says int.
  Json as_class_has_it(const HfRow& row, const Json& value) const {
    const HfDefault* d = default_of(row.field);
    if (d && !d->null.empty() && value == Json::parse(d->null)) return nullptr;
    if (row.field != "query_pre_attn_scalar" || !value.is_number_float()) return value;
    const double scalar = value.get<double>();
    return std::fabs(scalar) < 1e6 && scalar == std::trunc(scalar) ? Json(static_cast<int64_t>(scalar)) : value;
  }

  const HfDefault* default_of(std::string_view field) const {
    const auto* d = std::find_if(std::begin(kHfDefaults), std::end(kHfDefaults), [&](const HfDefault& one) {
      return one.architecture == architecture_ && one.field == field;
    });
    return d == std::end(kHfDefaults) ? nullptr : d;
  }

  void put_rope() {
    const double width = number("attention.key_length"), turned = number("rope.dimension_count");
    said_.insert("rope.dimension_count");
    const std::string factor = architecture_ == "gptneox" ? "rotary_pct" : "partial_rotary_factor";
    if (turned > 0 && turned < width) {
      double part = turned / width;
      while (static_cast<int64_t>(width * part) < static_cast<int64_t>(turned)) part = std::nextafter(part, 1.0);
      out_[factor] = part;
    } else if (turned > 0 && default_of(factor)) {
      out_[factor] = 1.0;
    }
    const std::string prefix = "rope.scaling.";
    const auto type = keys_.get_string(prefix + "type");
    said_.insert(prefix + "type");
    if (!type || *type == "none") {
      if (default_of("rope_scaling")) out_["rope_scaling"] = {{"rope_type", "default"}};
      return;
    }
    Json scaling = {{"rope_type", *type}};
    for (const HfRow& row : kHfRopeRows) {
      const std::string key = prefix + std::string(row.key);
      const Json* value = keys_.find(key);
      if (!value) continue;
      scaling[std::string(row.field)] = *value;
      if (!row_for(key, architecture_)) said_.insert(key);  // some say it beside the others, too
    }
    out_["rope_scaling"] = scaling;
  }

  // What a class would take for a field that is not there, and this model does not have.
  void put_absent() {
    const bool slides = out_.contains("sliding_window");
    if (!slides && default_of("sliding_window")) out_["sliding_window"] = nullptr;
    if (default_of("use_sliding_window")) out_["use_sliding_window"] = slides;
  }

  const KeyMap& keys_;
  const std::string& name_;
  std::string architecture_;
  std::set<std::string, std::less<>> said_;
  Json out_;
};

}  // namespace

const HfType* type_of(std::string_view architecture) {
  const auto* type = std::find_if(std::begin(kHfTypes), std::end(kHfTypes),
                                  [&](const HfType& t) { return t.architecture == architecture; });
  return type == std::end(kHfTypes) ? nullptr : type;
}

std::string_view word_of(std::string_view key, std::string_view architecture) {
  const HfRow* row = row_for(key, architecture);
  return row ? row->field : std::string_view();
}

Result<Json> config_of(const KeyMap& keys, const std::string& name) { return Writer(keys, name).run(); }

}  // namespace fovea::formats
