// fovea list
#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "fovea/base/bytes.h"
#include "fovea/store/model_store.h"

namespace fovea::cli {
namespace list_command {

Status list(bool all, const Common& common) {
  FOVEA_ASSIGN_OR_RETURN(const auto models, store::list_models(all));
  if (common.json) {
    nlohmann::json rows = nlohmann::json::array();
    for (const auto& m : models) {
      rows.push_back({{"name", m.name},
                      {"path", m.path},
                      {"bytes", m.bytes},
                      {"architecture", m.architecture},
                      {"quantization", m.quantization},
                      {"n_params", m.n_params},
                      {"n_ctx", m.n_ctx}});
    }
    return print_json({{"models", rows}});
  }
  if (models.empty() && !common.quiet) {
    FOVEA_ASSIGN_OR_RETURN(const std::string dir, store::models_dir());
    tell("no models in {} yet; fetch one: fovea pull smollm2-135m", dir);
  }
  std::string out;
  if (!models.empty())
    out = fmt::format("{:24} {:>8} {:>9} {:12} {:8} {:>7}  {}\n", "NAME", "SIZE", "PARAMS", "ARCHITECTURE", "QUANT",
                      "CTX", "PATH");
  for (const auto& m : models) {
    out += fmt::format("{:24} {:>5} MB {:>7.1f} M {:12} {:8} {:>7}  {}\n", escaped_line(m.name), m.bytes / 1'000'000,
                       static_cast<double>(m.n_params) / 1e6, escaped_line(m.architecture),
                       escaped_line(m.quantization), m.n_ctx, escaped_line(m.path));
  }
  return print(out);
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto all = std::make_shared<bool>(false);
  sub.add_flag("--all", *all, "also what the Hugging Face hub, Ollama and LM Studio keep on this machine");
  return [all, &common] { return list(*all, common); };
}

FOVEA_COMMAND("list", "what is in the model store", "fovea list --json", setup)

}  // namespace list_command
}  // namespace fovea::cli
