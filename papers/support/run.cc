#include "papers/support/run.h"

#include <fmt/format.h>

#include <algorithm>

#include "fovea/base/bytes.h"
#include "fovea/base/nearest.h"
#include "fovea/base/numbers.h"
#include "fovea/base/split.h"
#include "fovea/kernels/isa.h"
#include "fovea/store/build_id.h"

namespace fovea::papers {
namespace {

Status check_value(const Setting& setting, const std::string& value) {
  if (setting.max < setting.min) {
    const auto& words = setting.words;
    if (words.empty() || std::find(words.begin(), words.end(), value) != words.end()) return {};
    return make_error(ErrorCode::kUsage, "--set {}={}: one of {} should stand there", setting.name, escaped_line(value),
                      fmt::join(words, ", "));
  }
  for (const std::string_view part : split(value, ',')) {
    int number = 0;
    if (!parse_number(part, number) || number < setting.min || number > setting.max)
      return make_error(ErrorCode::kUsage, "--set {}={}: whole numbers in {} to {} should stand there", setting.name,
                        escaped_line(value), setting.min, setting.max);
  }
  return {};
}

Status apply_settings(const Paper& paper, const RunOptions& options, Report& report) {
  std::vector<std::string> names;
  for (const Setting& setting : paper.settings) {
    const auto given = options.settings.find(setting.name);
    const std::string& own = options.fast ? setting.fast : setting.full;
    const std::string& value = given == options.settings.end() ? own : given->second;
    FOVEA_RETURN_IF_ERROR(check_value(setting, value));
    report.settings.emplace_back(setting.name, value);
    names.push_back(setting.name);
  }
  for (const auto& [name, value] : options.settings) {
    if (std::find(names.begin(), names.end(), name) == names.end())
      return make_error(ErrorCode::kUsage, "--set {}: {} has no such setting; it has {}", escaped_line(name),
                        paper.slug, names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")));
  }
  return {};
}

// As a word of a shell command.
std::string shell_word(const std::string& text) {
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || std::string_view("_-./,=:@+").find(c) != std::string::npos;
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), plain)) return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

std::string command_of(const Paper& paper, const RunOptions& options) {
  std::string out = "fovea reproduce " + paper.slug;
  if (!options.model_name.empty()) out += " -m " + shell_word(options.model_name);
  if (options.fast) out += " --fast";
  if (options.seed != 0) out += fmt::format(" --seed {}", options.seed);
  if (options.numerics == kernels::Numerics::kExact) out += " --numerics exact";
  for (const auto& [name, value] : options.settings) out += " --set " + shell_word(name + "=" + value);
  return out;
}

std::string setting_text(const Json& setting) {
  std::string out;
  for (const auto& [name, value] : setting.items())
    out += fmt::format("{}{}={}", out.empty() ? "" : " ", name,
                       value.is_string() ? value.get<std::string>() : value.dump());
  return out;
}

}  // namespace

std::string Run::cell_dir(const Paper& paper, const RunOptions& options) {
  // Without a build id nothing tells this program's values from another's.
  return options.cache_dir.empty() || store::build_id().empty() ? "" : options.cache_dir + "/" + paper.slug;
}

const std::string& Run::word(std::string_view setting) const {
  const auto& all = report_.settings;
  const auto it = std::find_if(all.begin(), all.end(), [&](const auto& each) { return each.first == setting; });
  FOVEA_CHECK(it != all.end(), "reproduction {}: no setting {}", report_.slug, setting);
  return it->second;
}

std::vector<int> Run::numbers(std::string_view setting) const {
  std::vector<int> out;
  for (const std::string_view part : split(word(setting), ',')) {
    const bool is_number = parse_number(part, out.emplace_back());
    FOVEA_CHECK(is_number, "reproduction {}: setting {} is no number", report_.slug, setting);
  }
  return out;
}

std::vector<int> Run::lengths(std::string_view setting, int n_answer) const {
  const int most = model_->shape().n_ctx - n_answer;
  std::vector<int> out = numbers(setting);
  std::erase_if(out, [&](int length) { return length > most; });
  if (out.empty()) out.push_back(most);
  return out;
}

void Run::progress(const std::string& what, int64_t done, int64_t total) const {
  if (options_.progress) options_.progress(what, done, total);
}

Result<Json> Run::cell(const std::string& arm, const Json& setting, const std::function<Result<Json>()>& measure) {
  const Json key = {{"paper", report_.slug},
                    {"arm", arm},
                    {"setting", setting},
                    {"model_sha256", report_.model_sha256},
                    {"seed", seed()},
                    {"numerics", report_.numerics},
                    {"isa", kernels::name_of(kernels::active_isa())},
                    {"build", report_.build}};
  FOVEA_ASSIGN_OR_RETURN(const CellValues cell, cells_.get(key, measure));
  const auto same = [&](const Cell& each) { return each.arm == arm && each.setting == setting; };
  if (std::none_of(report_.cells.begin(), report_.cells.end(), same)) {
    report_.cells.push_back({arm, setting, cell.values, cell.seconds, cell.kept});
    if (options_.say)
      options_.say(fmt::format("{}, {}: {:.1f} s{}", arm, setting_text(setting), cell.seconds,
                               cell.kept ? ", kept from an earlier run" : ""));
  }
  return cell.values;
}

namespace {

// A cell that was kept may be whole and yet hold something else than the check reads from it.
Result<Outcome> measure(const Check& check, Run& run) {
  try {
    return check.measure(run);
  } catch (const Json::exception& error) {
    return make_error(ErrorCode::kData, "{}: what was kept for it is not what it reads ({}); measure it with --again",
                      check.name, error.what());
  }
}

}  // namespace

Result<Report> reproduce(const Paper& paper, std::shared_ptr<const engine::Model> model, const RunOptions& options) {
  Report report;
  report.slug = paper.slug, report.title = paper.title, report.source = paper.source;
  report.model = options.model_name, report.build = store::build_id(), report.fast = options.fast;
  report.numerics = options.numerics == kernels::Numerics::kExact ? "exact" : "fast";
  report.seed = options.seed;
  report.command = command_of(paper, options);
  FOVEA_RETURN_IF_ERROR(apply_settings(paper, options, report));
  if (options.item < 0 || options.item > paper.n_items)
    return make_error(ErrorCode::kUsage, "--item {}: {} has items 1 to {}", options.item, paper.slug, paper.n_items);
  if (model) {
    FOVEA_ASSIGN_OR_RETURN(report.model_sha256, model->sha256());
  }
  Run run(paper, std::move(model), options, report);
  for (const Check& check : paper.checks) {
    if ((options.item != 0 && options.item != check.item) || (options.fast && !check.in_fast)) continue;
    if (options.cancel && options.cancel->load()) return make_error(ErrorCode::kCancelled, "interrupted");
    FOVEA_ASSIGN_OR_RETURN(const Outcome outcome, measure(check, run));
    if (!outcome.has_data && check.kind == Kind::kControl) {
      report.skipped.push_back({check.item, check.name, outcome.measured});
    } else {
      report.checks.push_back({check.item, check.name, check.kind, outcome.passed, outcome.measured, check.expected,
                               fmt::format("{} --item {}", report.command, check.item), outcome.has_data});
    }
  }
  if (options.item != 0) report.command += fmt::format(" --item {}", options.item);
  return report;
}

}  // namespace fovea::papers
