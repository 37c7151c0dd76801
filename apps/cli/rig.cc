// fovea rig [NAME]
#include "fovea/train/rigs/rig.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "apps/cli/train_progress.h"
#include "fovea/base/bytes.h"

namespace fovea::cli {
namespace rig_command {

Status list(const Common& common) {
  nlohmann::json rows = nlohmann::json::array();
  std::string text;
  for (const auto& [name, rig] : train::rigs()) {
    nlohmann::json gates = nlohmann::json::object();
    std::string also;
    for (const train::RigGate& gate : rig.gates) {
      gates[std::string(gate.measure)] = gate.least;
      also += fmt::format(", {} of {} or more", gate.measure, gate.least);
    }
    rows.push_back({{"name", name},
                    {"summary", rig.summary},
                    {"minutes", rig.minutes},
                    {"required", rig.required},
                    {"gates", gates}});
    text += fmt::format("{:20} {}; loss on held-out data of {} or less{}, {:.0f} minutes at most\n", name, rig.summary,
                        rig.required, also, rig.minutes);
  }
  if (common.json) return print_json({{"rigs", rows}});
  return print(text);
}

Status run(const std::string& name, const Common& common) {
  if (name.empty()) return list(common);
  TrainProgress progress(common);
  const auto made = train::make_rig(name, progress.options());
  progress.clear();
  if (!made) return made.error();
  if (common.json)
    return print_json({{"name", name},
                       {"path", made->path},
                       {"gate", {{"metric", "eval_loss"}, {"required", made->required}, {"reached", made->reached}}},
                       {"measures", made->measures},
                       {"minutes", made->minutes}});
  std::string also;
  for (const auto& [measure, value] : made->measures) also += fmt::format(", {} {:.4f}", measure, value);
  return print(fmt::format("{}: loss on held-out data {:.4f} ({} required){}, {:.1f} minutes{}\n",
                           escaped_line(made->path), made->reached, made->required, also, made->minutes,
                           made->trained ? "" : ", made before"));
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto name = std::make_shared<std::string>();
  sub.add_option("NAME", *name, "what to train, where that has not been done; without it: which there are");
  return [name, &common] { return run(*name, common); };
}

FOVEA_COMMAND("rig", "train a named small model once", "fovea rig --json", setup)

}  // namespace rig_command
}  // namespace fovea::cli
