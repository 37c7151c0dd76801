// fovea reproduce SLUG [-m MODEL] [--fast] [--html FILE]
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/cli/command.h"
#include "apps/cli/model_session.h"
#include "fovea/base/bytes.h"
#include "fovea/store/model_store.h"
#include "fovea/store/user_cache.h"
#include "papers/support/run.h"

namespace fovea::cli {
namespace reproduce_command {

using papers::Paper;

struct Options {
  std::string slug, html;
  std::vector<std::string> settings;
  int item = 0;
  Seed seed;
  bool fast = false, again = false;
};

Status list(const Common& common) {
  nlohmann::json rows = nlohmann::json::array();
  std::string out = fmt::format("{:24} {:18} {}\n", "PAPER", "SOURCE", "TITLE");
  for (const auto& [slug, paper] : papers::papers()) {
    nlohmann::json settings = nlohmann::json::array();
    for (const auto& setting : paper.settings)
      settings.push_back(
          {{"name", setting.name}, {"default", setting.full}, {"fast", setting.fast}, {"help", setting.help}});
    rows.push_back({{"slug", slug},
                    {"title", paper.title},
                    {"paper", paper.source},
                    {"items", paper.n_items},
                    {"model", paper.model},
                    {"settings", settings}});
    out += fmt::format("{:24} {:18} {}\n", slug, paper.source, paper.title);
  }
  return common.json ? print_json({{"papers", rows}}) : print(out);
}

// The model of -m, else the paper's own. Under --fast the tiny model of a source tree stands in for one that is not
// there.
Result<std::string> model_of(const Paper& paper, const Common& common, bool fast) {
  if (paper.model.empty() || !common.model.empty()) return common.model;
  auto found = store::resolve_model(paper.model);
  if (found) return paper.model;
  if (!fast || found.error().code != ErrorCode::kNotFound) return found.error();
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  for (const auto& top : {std::filesystem::path("."), program / ".."}) {
    const auto tiny = (top / "tests/data/tiny-llama.gguf").lexically_normal();
    if (!std::filesystem::exists(tiny, error)) continue;
    if (!common.quiet)
      tell("{} is not in the store: a tiny model of random weights stands in, which shows no shape", paper.model);
    return tiny.string();
  }
  return found.error();
}

Result<std::map<std::string, std::string>> settings_of(const Options& options) {
  std::map<std::string, std::string> out;
  for (const std::string& text : options.settings) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
      return make_error(ErrorCode::kUsage, "--set: {} is not NAME=VALUE", quote(text, 80));
    out[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return out;
}

std::string table(const papers::Report& report) {
  std::string out = fmt::format("{}\n{}; {}\n\n", report.title, report.source,
                                report.model.empty() ? "no model" : escaped_line(report.model));
  for (const auto& check : report.checks) {
    out += fmt::format("{:<3} {:8} {:10} {}: {} (expected: {})\n", check.item, papers::name_of(check.kind),
                       papers::verdict_of(check), check.name, escaped_line(check.measured), check.expected);
  }
  for (const auto& each : report.skipped)
    out +=
        fmt::format("{:<3} {:8} {:10} {}: {}\n", each.item, "control", "left out", each.name, escaped_line(each.why));
  return out;
}

// After the answer: what failed, in the exit code too. A shape that does not show fails nothing.
Status verdict(const papers::Report& report) {
  const auto failed = report.failed();
  if (failed.empty()) return {};
  std::string names;
  for (const auto* check : failed)
    names += fmt::format("{}item {} ({})", names.empty() ? "" : ", ", check->item, check->name);
  return make_error(ErrorCode::kFailed, "{}: {} of {} checks failed: {}", report.slug, failed.size(),
                    report.checks.size(), names);
}

Status reproduce(const Options& options, Common common) {
  if (options.slug.empty()) {
    if (options.fast || options.again || options.item != 0 || !options.html.empty() || !options.settings.empty())
      return make_error(ErrorCode::kUsage, "which paper? fovea reproduce SLUG ...; fovea reproduce lists them");
    return list(common);
  }
  const Interrupt interrupt;
  FOVEA_ASSIGN_OR_RETURN(const Paper* paper, papers::find_paper(options.slug));
  papers::RunOptions run;
  FOVEA_ASSIGN_OR_RETURN(run.settings, settings_of(options));
  std::optional<FileWriter> page;
  if (!options.html.empty()) {
    if (options.html == "-" && common.json)
      return make_error(ErrorCode::kUsage, "--html - and --json both want standard output: give one of them");
    auto opened = FileWriter::create(options.html);
    if (!opened) return make_error(opened.error().code, "--html: {}", opened.error().message);
    page.emplace(std::move(*opened));
  }
  FOVEA_ASSIGN_OR_RETURN(common.model, model_of(*paper, common, options.fast));
  std::shared_ptr<const engine::Model> model;
  if (!common.model.empty()) {
    ModelFlags flags;
    flags.repack_late = false;  // checks time decoding
    FOVEA_ASSIGN_OR_RETURN(model, load_model(common, flags));
  }
  show_seed(common, options.seed);
  Progress bar("", 0, "steps", 1, common.quiet);
  run.fast = options.fast, run.item = options.item, run.seed = options.seed.value, run.again = options.again;
  run.numerics = common.numerics == "exact" ? kernels::Numerics::kExact : kernels::Numerics::kFast;
  run.model_name = common.model;
  if (const std::string cache = store::user_cache_dir(); !cache.empty()) run.cache_dir = cache + "/papers";
  run.cancel = &Interrupt::flag();
  run.progress = [&bar](const std::string& what, int64_t done, int64_t total) {
    bar.set_label(what);
    bar.set_total(static_cast<uint64_t>(total));
    bar.update(static_cast<uint64_t>(done));
  };
  run.say = [&](const std::string& line) {
    bar.clear();
    if (!common.quiet) tell_line(line);
  };
  FOVEA_ASSIGN_OR_RETURN(const papers::Report report, papers::reproduce(*paper, model, run));
  bar.clear();
  if (page) {
    FOVEA_RETURN_IF_ERROR(page->write(papers::to_html(report)));
    FOVEA_RETURN_IF_ERROR(page->commit());
  }
  if (!page || !page->to_stdout())
    FOVEA_RETURN_IF_ERROR(common.json ? print_json(papers::to_json(report)) : print(table(report)));
  return verdict(report);
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  sub.add_option("SLUG", options->slug, "the paper; without one they are listed");
  add_model_options(sub, common, /*required=*/false);
  sub.add_flag("--fast", options->fast,
               "in seconds: smaller settings, and a tiny model where the paper's is not there");
  sub.add_option("--item", options->item, "the checks of one numbered line of the paper's card; 0: all")
      .transform(in_range(int64_t{0}, int64_t{1000}))
      .show_default();
  add_seed_option(sub, options->seed, "of everything that is drawn");
  sub.add_option("--set", options->settings, "NAME=VALUE, a setting of the paper (--json lists them); may be repeated")
      .one_value_each_time();
  sub.add_flag("--again", options->again, "measure anew what earlier runs of this build have measured");
  sub.add_option("--html", options->html, "write a page with the checks, the arms and plots there; - is stdout");
  return [options, &common] { return reproduce(*options, common); };
}

FOVEA_COMMAND("reproduce", "what a paper claims, checked on a model", "fovea reproduce retrieval-heads --fast", setup)

}  // namespace reproduce_command
}  // namespace fovea::cli
