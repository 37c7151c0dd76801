#include "apps/cli/profile_moa.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/cli/command.h"
#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/interrupt.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/probe/measures/profile.h"

namespace fovea::cli {
namespace {

std::string summary_of(const probe::MoaPlan& plan) {
  std::string out;
  for (size_t i = 0; i < plan.densities.size(); ++i) {
    const int length = i < plan.options.lengths.size() ? plan.options.lengths[i] : plan.options.validate;
    out += fmt::format("density    {:.3f} at {} tokens\n", plan.densities[i], length);
  }
  out += fmt::format("loss       {:.4f} nats a token of answers at {} tokens; dense {:.4f}, one span for all {:.4f}\n",
                     plan.loss, plan.options.validate, plan.dense_loss, plan.uniform_loss);
  std::map<std::pair<double, int>, int> rules;
  for (const probe::SpanRule& rule : plan.rules) ++rules[{rule.beta, rule.alpha}];
  out += "KV heads   span\n";
  for (const auto& [rule, n] : rules) out += fmt::format("{:<10} {:+} {:+g} N\n", n, rule.second, rule.first);
  return out;
}

}  // namespace

Status profile_moa(const ModelFlags& flags, probe::MoaOptions options, const std::string& output,
                   const Common& common) {
  if (options.shuffled && output.empty())
    return make_error(ErrorCode::kUsage, "--shuffled is a control, which is not kept: -o says where it goes");
  const Interrupt interrupt;
  std::optional<FileWriter> file;
  if (!output.empty()) {
    FOVEA_ASSIGN_OR_RETURN(FileWriter opened, open_output(output, common, OutputIs::kText));
    file.emplace(std::move(opened));
  }
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, flags));
  FOVEA_ASSIGN_OR_RETURN(const probe::FoundProfile before, probe::find_profile(*model));
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, engine::load_tokenizer(model->source()));
  options.numerics = common.numerics == "exact" ? kernels::Numerics::kExact : kernels::Numerics::kFast;
  options.cancel = &Interrupt::flag();
  Progress bar("influence of heads", 0, "texts", 1, common.quiet);
  options.progress = [&bar](int64_t done, int64_t total, const char* what) {
    bar.set_label(what);
    bar.set_total(static_cast<uint64_t>(total));
    bar.update(static_cast<uint64_t>(done));
  };
  FOVEA_ASSIGN_OR_RETURN(const probe::MoaPlan plan, probe::plan_moa(model, *tokenizer, options));
  bar.clear();
  FOVEA_ASSIGN_OR_RETURN(const std::string json, probe::with_plan(before, plan));
  if (!options.shuffled) {
    FOVEA_ASSIGN_OR_RETURN(const std::string path, probe::profile_cache_path(before.heads->model_sha256));
    std::error_code ignored;  // write_file_atomic says why if the folder is not there
    std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
    FOVEA_RETURN_IF_ERROR(write_file_atomic(path, json));
    if (!common.quiet) tell("kept in {}", quote(path, 4096));
  }
  if (file) {
    FOVEA_RETURN_IF_ERROR(file->write(json));
    FOVEA_RETURN_IF_ERROR(file->commit());
    if (file->to_stdout()) return {};
  }
  return common.json ? print_json(plan.how()) : print(summary_of(plan));
}

}  // namespace fovea::cli
