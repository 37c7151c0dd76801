#include "fovea/probe/measures/profile.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/base/file.h"
#include "fovea/base/json.h"
#include "fovea/engine/head_profile.h"
#include "fovea/engine/lora.h"
#include "fovea/probe/measures/moa_plan.h"
#include "fovea/probe/measures/needle_columns.h"
#include "fovea/probe/measures/pattern_columns.h"
#include "fovea/probe/measures/repeat_columns.h"
#include "fovea/store/model_store.h"

namespace fovea::probe {
namespace {

using Json = nlohmann::ordered_json;
using attention::Granularity;
using attention::HeadProfile;

double rounded(double value) { return std::round(value * 1e4) / 1e4; }

std::string dumped(const Json& json) {  // names of files need not be UTF-8
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// "heads": [...], one entry a line, so that two profiles can be compared by eye; nothing without columns of this kind.
// A column that was not measured is null, not zero.
std::string section(const char* key, Granularity of, const HeadProfile& profile) {
  Json unknown = Json::object();
  for (const auto& [name, info] : profile_columns()) {
    if (info.of == of && !info.trained) unknown[name] = nullptr;
  }
  if (unknown.empty() && of != Granularity::kHead) return "";
  const size_t n = profile.size(of);
  const auto each = n / static_cast<size_t>(profile.n_layers);  // entries of a layer
  std::string out = fmt::format(",\n\"{}\": {}", key, of == Granularity::kModel ? "" : "[\n");
  for (size_t i = 0; i < n; ++i) {
    Json row = Json::object();
    if (of != Granularity::kModel) row["layer"] = i / each;
    if (of == Granularity::kHead) row["head"] = i % each;
    if (of == Granularity::kKvHead) row["kv_head"] = i % each;
    row.update(unknown);
    for (const auto& [name, column] : profile.columns) {
      if (column.of == of) row[name] = column.values[i];
    }
    out += dumped(row) + (i + 1 < n ? ",\n" : "");
  }
  return out + (of == Granularity::kModel ? "" : "\n]");
}

std::string to_json(const MeasuredProfile& profile, const ProfileOptions& options,
                    const std::vector<engine::Document>& haystacks) {
  HeadProfile heads = profile.heads;
  for (auto& [name, column] : heads.columns) {
    const auto info = profile_columns().find(name);
    if (info != profile_columns().end() && info->second.trained) continue;
    for (double& value : column.values) value = rounded(value);
  }
  Json names = Json::array();
  for (const engine::Document& text : haystacks) names.push_back(text.name);
  int64_t accepted = 0;
  for (const ProfileSample& sample : profile.samples) accepted += sample.accepted ? 1 : 0;
  const tasks::NeedleOptions& needle = options.needle;
  const Json how = {{"samples", profile.samples.size()},
                    {"accepted", accepted},
                    {"lengths", needle.lengths},
                    {"n_depths", needle.n_depths},
                    {"n_needles", needle.needles.size()},
                    {"texts", names},
                    {"decode_max", needle.decode_max},
                    {"top_k", needle.top_k},
                    {"success", fmt::format("ROUGE-1 recall of the answer > {}", needle.accept)},
                    {"seed", needle.seed},
                    {"attention", "dense"},
                    {"numerics", options.numerics == kernels::Numerics::kExact ? "exact" : "fast"},
                    {"engine", "fovea " + options.engine_version},
                    {"command", options.command}};
  return profile_json(heads, how);
}

Result<FoundProfile> checked(std::string name, std::string json, const engine::Model& model,
                             const std::string& sha256) {
  Result<HeadProfile> heads = engine::parse_head_profile(json, name, model.shape());
  if (heads && heads->model_sha256 != sha256)
    heads = make_error(ErrorCode::kData, "{}: it was measured on another model file", name);
  if (!heads) {
    heads.error().message += fmt::format("; measure anew with: fovea profile -m {} --again", model.path());
    return heads.error();
  }
  return FoundProfile{std::move(name), std::move(json), std::make_shared<const HeadProfile>(std::move(*heads))};
}

}  // namespace

Result<MeasuredProfile> measure_profile(std::shared_ptr<const engine::Model> model,
                                        const tokenizers::Tokenizer& tokenizer, const ProfileOptions& options) {
  std::vector<engine::Document> haystacks = options.haystacks;
  if (haystacks.empty()) {
    FOVEA_ASSIGN_OR_RETURN(haystacks, tasks::default_haystacks());
  }
  MeasuredProfile out;
  FOVEA_ASSIGN_OR_RETURN(out.prompts,
                         tasks::make_needle_prompts(model->source(), tokenizer, haystacks, options.needle));
  // Always dense: a score taken through a sparse or compressed cache tells about the cache.
  FOVEA_ASSIGN_OR_RETURN(const auto session,
                         engine::Session::create(model, {.numerics = options.numerics, .adapters = options.adapters}));
  FOVEA_ASSIGN_OR_RETURN(out.heads.model_sha256, engine::weights_sha256(*model, options.adapters.get()));
  out.heads.n_layers = model->shape().n_layers;
  out.heads.n_heads = model->shape().n_heads;
  out.heads.n_kv_heads = model->shape().n_kv_heads;
  FOVEA_RETURN_IF_ERROR(measure_retrieval(*session, tokenizer, options, out));
  FOVEA_RETURN_IF_ERROR(measure_patterns(*session, tokenizer, haystacks[0].text, options.needle.seed + 2, out.heads));
  FOVEA_RETURN_IF_ERROR(measure_repeats(*session, tokenizer, options.needle.seed + 3, out.heads));
  for (const auto& [name, column] : profile_columns()) {
    const auto* kept = column.trained && options.before ? options.before->find(name, column.of) : nullptr;
    if (kept) set_column(out.heads, name, *kept);
  }
  out.json = to_json(out, options, haystacks);
  return out;
}

const Columns& profile_columns() { return column_registry(); }

std::string profile_json(const HeadProfile& heads, const Json& measured) {
  return fmt::format(
      "{{\n\"version\": 1,\n\"model_sha256\": {},\n\"n_layers\": {},\n\"n_heads\": {},\n\"n_kv_heads\": "
      "{},\n\"measured\": {}{}{}{}{}\n}}\n",
      dumped(heads.model_sha256), heads.n_layers, heads.n_heads, heads.n_kv_heads, dumped(measured),
      section("heads", Granularity::kHead, heads), section("kv_heads", Granularity::kKvHead, heads),
      section("layers", Granularity::kLayer, heads), section("model", Granularity::kModel, heads));
}

Result<std::string> with_plan(const FoundProfile& profile, const MoaPlan& plan) {
  FOVEA_ASSIGN_OR_RETURN(const Json document, parse_json(profile.json, profile.name));
  HeadProfile heads = *profile.heads;
  set_spans(heads, plan.rules, plan.options.block);
  Json how = document.value("measured", Json::object());
  how["moa"] = plan.how();
  return profile_json(heads, how);
}

Result<std::string> profile_cache_path(std::string_view model_sha256) {
  FOVEA_ASSIGN_OR_RETURN(const std::string dir, store::models_dir());
  return fmt::format("{}/profiles/{}.json", dir, model_sha256);
}

Result<FoundProfile> find_profile(const engine::Model& model, const tensor::Adapters* adapters) {
  FOVEA_ASSIGN_OR_RETURN(const std::string sha256, engine::weights_sha256(model, adapters));
  FOVEA_ASSIGN_OR_RETURN(const std::string path, profile_cache_path(sha256));
  auto cached = read_file(path, kMaxProfileBytes);
  if (cached) return checked(path, std::move(*cached), model, sha256);
  if (cached.error().code != ErrorCode::kNotFound) return cached.error();
  for (const ShippedProfile& shipped : shipped_profiles()) {
    if (shipped.json.find(sha256) == std::string_view::npos) continue;
    return checked(fmt::format("the shipped {}", shipped.file_name), std::string(shipped.json), model, sha256);
  }
  return make_error(ErrorCode::kNotFound, "there is no head profile of {}; make one with: fovea profile -m {}",
                    model.path(), model.path());
}

}  // namespace fovea::probe
