// fovea methods
#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "fovea/attention/method.h"
#include "fovea/probe/measures/profile.h"

namespace fovea::cli {
namespace methods_command {

using attention::KnobInfo;
using attention::MethodInfo;
using nlohmann::json;

json describe(const KnobInfo& knob) {
  json out = {{"name", knob.name}, {"default", knob.value}, {"min", nullptr}, {"max", nullptr}, {"help", knob.help}};
  switch (knob.kind) {
    case KnobInfo::Kind::kWhole:
    case KnobInfo::Kind::kReal:
      if (knob.kind == KnobInfo::Kind::kWhole) {
        out["default"] = std::strtoll(knob.value.c_str(), nullptr, 10);
      } else {
        out["default"] = std::strtod(knob.value.c_str(), nullptr);
      }
      if (std::isfinite(knob.min)) out["min"] = knob.min;
      if (std::isfinite(knob.max)) out["max"] = knob.max;
      break;
    case KnobInfo::Kind::kSwitch: out["default"] = knob.value == "true"; break;
    case KnobInfo::Kind::kChoice: out["choices"] = knob.choices; break;
    case KnobInfo::Kind::kHeads: break;
  }
  return out;
}

std::vector<std::string_view> needed_columns(const MethodInfo& info) {
  std::vector<std::string_view> names;
  for (const attention::Need& need : attention::needs_of(info)) names.push_back(need.column);
  return names;
}

std::vector<std::string> partners(const MethodInfo& info) {
  std::vector<std::string> names;
  for (const std::string& name : attention::method_names()) {
    if (name != info.name && attention::can_compose(info, attention::make_method(name)->info())) names.push_back(name);
  }
  return names;
}

json describe(attention::Method& method) {
  const MethodInfo& info = method.info();
  json knobs = json::array();
  for (const KnobInfo& knob : attention::list_knobs(method)) knobs.push_back(describe(knob));
  return {{"name", info.title},
          {"slug", info.name},
          {"summary", info.summary},
          {"paper", info.paper},
          {"stages", attention::stage_names(info.stages)},
          {"needs", needed_columns(info)},
          {"composes_with", partners(info)},
          {"example", fmt::format("{}{}{}", info.name, info.example.empty() ? "" : ":", info.example)},
          {"knobs", knobs}};
}

std::string range(const KnobInfo& knob) {
  if (knob.kind == KnobInfo::Kind::kChoice) return fmt::format("{}", fmt::join(knob.choices, "|"));
  if (knob.kind == KnobInfo::Kind::kSwitch) return "true|false";
  if (knob.kind == KnobInfo::Kind::kHeads) return "heads";
  if (std::isfinite(knob.min) && std::isfinite(knob.max)) return fmt::format("{} to {}", knob.min, knob.max);
  if (std::isfinite(knob.min)) return fmt::format("from {}", knob.min);
  return std::isfinite(knob.max) ? fmt::format("up to {}", knob.max) : "a number";
}

std::string page(attention::Method& method) {
  const MethodInfo& info = method.info();
  const auto words = [](const auto& list) {
    return list.empty() ? std::string("nothing") : fmt::format("{}", fmt::join(list, ", "));
  };
  std::vector<std::string> needs;
  for (const attention::Need& need : attention::needs_of(info)) {
    const auto column = probe::profile_columns().find(need.column);
    const std::string when = need.knob.empty()    ? ""
                             : need.value.empty() ? fmt::format(" for {}", need.knob)
                                                  : fmt::format(" for {}={}", need.knob, need.value);
    needs.push_back(fmt::format("{}{} (fovea profile: {})", need.column, when,
                                column == probe::profile_columns().end() ? "?" : column->second.help));
  }
  std::string out = fmt::format("{}: {}\n  {}\n\n", info.name, info.title, info.summary);
  out += fmt::format("paper          {}\nstages         {}\nneeds          {}\ncomposes with  {}\n", info.paper,
                     words(attention::stage_names(info.stages)), words(needs), words(partners(info)));
  if (!info.example.empty()) out += fmt::format("example        --attention {}:{}\n", info.name, info.example);
  const auto knobs = attention::list_knobs(method);
  if (!knobs.empty()) out += fmt::format("\n{:14} {:10} {:22} {}\n", "KNOB", "DEFAULT", "RANGE", "MEANING");
  for (const KnobInfo& knob : knobs)
    out += fmt::format("{:14} {:10} {:22} {}\n", knob.name, knob.value, range(knob), knob.help);
  return out;
}

Status methods(const std::string& name, const Common& common) {
  std::vector<std::unique_ptr<attention::Method>> shown;
  if (name.empty()) {
    for (const std::string& each : attention::method_names()) shown.push_back(attention::make_method(each));
  } else {
    shown.push_back(attention::make_method(name));
    if (!shown[0]) return attention::no_such_method(name);
  }
  if (common.json) {
    json rows = json::array();
    for (const auto& method : shown) rows.push_back(describe(*method));
    return print_json({{"methods", rows}});
  }
  if (!name.empty()) return print(page(*shown[0]));
  std::string out = fmt::format("{:25} {:28} {}\n", "METHOD", "PAPER", "WHAT IT DOES");
  for (const auto& method : shown)
    out += fmt::format("{:25} {:28} {}\n", method->info().name, method->info().paper, method->info().summary);
  return print(out);
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto name = std::make_shared<std::string>();
  sub.add_option("NAME", *name, "one method: its knobs, paper, stages and needs");
  return [name, &common] { return methods(*name, common); };
}

FOVEA_COMMAND("methods", "the attention methods and their knobs", "fovea methods streaming-llm", setup)

}  // namespace methods_command
}  // namespace fovea::cli
