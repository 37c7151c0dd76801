#include "apps/cli/profile_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/cli/model_session.h"
#include "apps/cli/train_progress.h"
#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/interrupt.h"
#include "fovea/base/json.h"
#include "fovea/base/text_file.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/probe/measures/pattern_columns.h"
#include "fovea/tasks/needle.h"
#include "fovea/train/report.h"
#include "fovea/train/rigs/rig.h"

namespace fovea::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxLogBytes = uint64_t{1} << 32;

Result<std::string> folder_of(const std::string& run, const Common& common) {
  if (!train::rigs().contains(run)) return run;
  TrainProgress progress(common);
  const auto made = train::make_rig(run, progress.options());
  progress.clear();
  if (!made) return made.error();
  return fs::path(made->path).parent_path().string();
}

// The models that were kept, by how many steps they had seen.
Result<std::map<int64_t, std::string>> kept_models(const std::string& folder) {
  std::map<int64_t, std::string> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder + "/kept", error)) {
    const std::string name = entry.path().filename().string();
    int64_t step = 0;
    const auto [end, bad] = std::from_chars(name.data(), name.data() + name.size(), step);
    if (bad != std::errc() || end != name.data() + name.size()) continue;
    const bool gguf = fs::exists(entry.path() / "model.gguf", error);
    out[step] = (entry.path() / (gguf ? "model.gguf" : "model")).string();
  }
  if (out.empty())
    return make_error(
        ErrorCode::kNotFound,
        "{}: no models were kept of this run; \"keep_every\" of its config says after how many steps one is",
        quote(folder, 4096));
  return out;
}

// "eval_loss" of the log, by steps done.
Result<std::map<int64_t, Json>> eval_losses(const std::string& folder) {
  FOVEA_ASSIGN_OR_RETURN(const std::string log, read_file(folder + "/log.jsonl", kMaxLogBytes));
  std::map<int64_t, Json> out;
  for (size_t at = 0; at < log.size();) {
    const size_t end = std::min(log.find('\n', at), log.size());
    const auto line = parse_json(std::string_view(log).substr(at, end - at), "log");
    at = end + 1;
    if (!line || !line->is_object() || !line->contains("eval_loss")) continue;
    if (const Json& step = (*line)["step"]; step.is_number_integer())
      out[step.get<int64_t>() + 1] = (*line)["eval_loss"];
  }
  return out;
}

Json by_layer(const std::vector<double>& values, int n_heads) {
  Json out = Json::array();
  for (size_t i = 0; i < values.size(); ++i) {
    if (i % static_cast<size_t>(n_heads) == 0) out.push_back(Json::array());
    out.back().push_back(values[i]);
  }
  return out;
}

Result<Json> measure(const std::string& path, const std::string& text, uint64_t seed, const Common& common) {
  Common of = common;
  of.model = path;
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(of, {}));
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, engine::load_tokenizer(model->source()));
  const bool exact = common.numerics == "exact";
  FOVEA_ASSIGN_OR_RETURN(
      const auto session,
      engine::Session::create(model, {.numerics = exact ? kernels::Numerics::kExact : kernels::Numerics::kFast}));
  attention::HeadProfile profile;
  profile.n_layers = model->shape().n_layers, profile.n_heads = model->shape().n_heads;
  profile.n_kv_heads = model->shape().n_kv_heads;
  FOVEA_RETURN_IF_ERROR(probe::measure_patterns(*session, *tokenizer, text, seed, profile));
  Json out = Json::object();
  for (const auto& [name, column] : profile.columns) out[name] = by_layer(column.values, profile.n_heads);
  return out;
}

// The best head of a measure: "0.91 (1.3)", layer and head.
std::string best(const Json& layers) {
  double most = -1;
  std::string where;
  for (size_t l = 0; l < layers.size(); ++l) {
    for (size_t h = 0; h < layers[l].size(); ++h) {
      if (layers[l][h].get<double>() > most) most = layers[l][h], where = fmt::format("{}.{}", l, h);
    }
  }
  return fmt::format("{:.2f} ({})", most, where);
}

}  // namespace

Status profile_run(const std::string& run, const std::string& text_file, uint64_t seed, const std::string& output,
                   const Common& common) {
  FOVEA_ASSIGN_OR_RETURN(const std::string folder, folder_of(run, common));
  const Interrupt interrupt;
  FOVEA_ASSIGN_OR_RETURN(const auto models, kept_models(folder));
  FOVEA_ASSIGN_OR_RETURN(const auto losses, eval_losses(folder));
  std::string text;
  if (text_file.empty()) {
    FOVEA_ASSIGN_OR_RETURN(const auto texts, tasks::default_haystacks());
    text = texts[0].text;
  } else {
    FOVEA_ASSIGN_OR_RETURN(text, read_text_file(text_file));
  }
  std::optional<FileWriter> page;
  if (!output.empty()) {
    FOVEA_ASSIGN_OR_RETURN(FileWriter opened, open_output(output, common, OutputIs::kText));
    page.emplace(std::move(opened));
  }
  Json steps = Json::array();
  std::string table = fmt::format("{:>8}  {:>8}  {:<12}  {}\n", "step", "held out", "induction", "previous token");
  for (const auto& [step, path] : models) {
    if (Interrupt::flag().load()) return interrupted_error();
    FOVEA_ASSIGN_OR_RETURN(const Json measured, measure(path, text, seed, common));
    const auto loss = losses.find(step);
    Json one = {{"step", step}, {"eval_loss", loss == losses.end() ? Json() : loss->second}};
    table += fmt::format("{:>8}  {:>8}  {:<12}  {}\n", step,
                         one["eval_loss"].is_number() ? fmt::format("{:.4f}", one["eval_loss"].get<double>()) : "",
                         best(measured["induction"]), best(measured["previous_token"]));
    one.update(measured);
    steps.push_back(std::move(one));
  }
  const Json all = {{"run", folder}, {"steps", std::move(steps)}};
  if (page) {
    FOVEA_RETURN_IF_ERROR(page->write(train::heads_page(all)));
    FOVEA_RETURN_IF_ERROR(page->commit());
    if (page->to_stdout()) return {};
  }
  return common.json ? print_json(all) : print(table);
}

}  // namespace fovea::cli
