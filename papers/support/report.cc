#include "papers/support/report.h"

#include "fovea/base/cpu_count.h"
#include "fovea/base/file.h"
#include "fovea/kernels/isa.h"

namespace fovea::papers {
namespace {

nlohmann::json scalars_of(const Json& object) {
  nlohmann::json out = nlohmann::json::object();
  for (const auto& [name, value] : object.items()) {
    if (value.is_primitive()) out[name] = value;
  }
  return out;
}

}  // namespace

std::string_view verdict_of(const CheckResult& check) {
  if (check.kind == Kind::kShape) return check.passed ? "shown" : check.has_data ? "not shown" : "no data";
  return check.passed ? "passed" : "FAILED";
}

std::vector<const CheckResult*> Report::failed() const {
  std::vector<const CheckResult*> out;
  for (const CheckResult& check : checks) {
    if (!check.passed && check.kind != Kind::kShape) out.push_back(&check);
  }
  return out;
}

nlohmann::json machine_json() {
  std::string cpu = "unknown";
  if (const auto info = read_file("/proc/cpuinfo", uint64_t{16} << 20)) {
    const size_t at = info->find("model name"), colon = info->find(": ", at), end = info->find('\n', colon);
    if (at != std::string::npos && colon != std::string::npos) cpu = info->substr(colon + 2, end - colon - 2);
  }
  return {{"cpu", cpu}, {"cores", physical_cores(usable_cpus())}, {"isa", kernels::name_of(kernels::active_isa())}};
}

nlohmann::json to_json(const Report& report) {
  using nlohmann::json;
  json checks = json::array(), skipped = json::array(), cells = json::array(), settings = json::object();
  for (const CheckResult& check : report.checks) {
    checks.push_back({{"item", check.item},
                      {"name", check.name},
                      {"kind", name_of(check.kind)},
                      {"passed", check.passed},
                      {"verdict", verdict_of(check)},
                      {"measured", check.measured},
                      {"expected", check.expected},
                      {"command", check.command}});
  }
  for (const Skipped& each : report.skipped)
    skipped.push_back({{"item", each.item}, {"name", each.name}, {"why", each.why}});
  for (const Cell& cell : report.cells) {
    cells.push_back({{"arm", cell.arm},
                     {"setting", scalars_of(cell.setting)},
                     {"values", scalars_of(cell.values)},
                     {"seconds", cell.seconds}});
  }
  for (const auto& [name, value] : report.settings) settings[name] = value;
  return {{"slug", report.slug},
          {"title", report.title},
          {"paper", report.source},
          {"model", report.model.empty() ? json() : json(report.model)},
          {"model_sha256", report.model_sha256.empty() ? json() : json(report.model_sha256)},
          {"fast", report.fast},
          {"seed", report.seed},
          {"numerics", report.numerics},
          {"settings", settings},
          {"build", report.build},
          {"machine", machine_json()},
          {"command", report.command},
          {"checks", checks},
          {"skipped", skipped},
          {"cells", cells},
          {"passed", report.failed().empty()}};
}

}  // namespace fovea::papers
