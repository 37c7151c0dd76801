// fovea check PATH
#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "fovea/base/bytes.h"
#include "fovea/engine/model_check.h"
#include "fovea/formats/gguf.h"
#include "fovea/formats/hf_folder.h"
#include "fovea/formats/safetensors.h"
#include "fovea/models/family.h"
#include "fovea/store/model_store.h"

namespace fovea::cli {
namespace check_command {

struct Options {
  std::string path;
  bool strict = false, limits = false, families = false;
};

Status print_limits(const Common& common) {
  using formats::Gguf;
  using Sizes = engine::ModelSizes;
  const std::vector<std::pair<const char*, uint64_t>> limits = {
      {"gguf.key_bytes", Gguf::kMaxKeyBytes},
      {"gguf.string_bytes", Gguf::kMaxStringBytes},
      {"gguf.template_bytes", Gguf::kMaxTemplateBytes},
      {"gguf.metadata_bytes", Gguf::kMaxMetadataBytes},
      {"gguf.keys", Gguf::kMaxKeys},
      {"gguf.tensors", Gguf::kMaxTensors},
      {"gguf.tensor_name_bytes", Gguf::kMaxNameBytes},
      {"gguf.architecture_bytes", Gguf::kMaxArchitectureBytes},
      {"gguf.shards", Gguf::kMaxShards},
      {"gguf.dimensions", 4},
      {"safetensors.header_bytes", formats::Safetensors::kMaxHeaderBytes},
      {"safetensors.tensor_name_bytes", formats::Safetensors::kMaxNameBytes},
      {"safetensors.dimensions", formats::Safetensors::kMaxDims},
      {"folder.config_bytes", formats::HfFolder::kMaxConfigBytes},
      {"folder.index_bytes", formats::HfFolder::kMaxIndexBytes},
      {"folder.tokenizer_bytes", formats::HfFolder::kMaxTokenizerBytes},
      {"folder.shards", formats::HfFolder::kMaxShards},
      {"model.layers", Sizes::kMaxLayers},
      {"model.heads", Sizes::kMaxHeads},
      {"model.head_dim", Sizes::kMaxHeadDim},
      {"model.width", Sizes::kMaxWidth},
      {"model.vocab_size", Sizes::kMaxVocab},
      {"model.n_ctx", Sizes::kMaxContext},
      {"model.experts", Sizes::kMaxExperts},
      {"model.experts_in_all_layers", Sizes::kMaxExpertsInAllLayers}};
  nlohmann::json json = nlohmann::json::object();
  std::string text;
  for (const auto& limit : limits) {
    json[limit.first] = limit.second;
    text += fmt::format("{:24} {:>12}\n", limit.first, limit.second);
  }
  return common.json ? print_json({{"limits", json}}) : print(text);
}

// The table of docs/models.md: what a family is, as its keys and traits say it.
Status print_families(const Common& common) {
  nlohmann::json json = nlohmann::json::array();
  std::string text = "| architecture | models | norms | positions | windows | refused |\n|---|---|---|---|---|---|\n";
  for (const auto& [name, family] : models::family_registry()) {
    const auto reads = [&keys = family.keys](std::string_view key) {
      return std::any_of(keys.begin(), keys.end(), [&](const models::FamilyKey& known) {
        return known.name == key && known.use == models::FamilyKey::Use::kRead;
      });
    };
    const char* norms = reads("attention.layer_norm_rms_epsilon") ? "rms" : "layer";
    const char* positions = reads("attention.relative_buckets_count") ? "distances"
                            : !reads("rope.freq_base")                ? "learned"
                            : reads("rope.freq_base_swa")             ? "angles, others in windows"
                            : reads("no_rope_layers")                 ? "angles, none in some layers"
                                                                      : "angles";
    const char* windows = reads("attention.sliding_window") ? "yes" : "none";
    json.push_back({{"architecture", name},
                    {"models", family.traits.models},
                    {"norms", norms},
                    {"positions", positions},
                    {"windows", windows},
                    {"refused", family.traits.limits}});
    text += fmt::format("| `{}` | {} | {} | {} | {} | {} |\n", name, family.traits.models, norms, positions, windows,
                        family.traits.limits);
  }
  return common.json ? print_json({{"families", json}}) : print(text);
}

Status check(const Options& options, const Common& common) {
  if (options.limits) return print_limits(common);
  if (options.families) return print_families(common);
  if (options.path.empty()) return make_error(ErrorCode::kUsage, "PATH is required");
  FOVEA_ASSIGN_OR_RETURN(const std::string path, store::resolve_model(options.path));
  engine::CheckReport report;
  const auto source = formats::open_model(path, {.strict = options.strict});
  if (source) {
    report = engine::check_model(*source.value(), {.strict = options.strict});
  } else {
    report.problems.push_back(source.error());
  }
  const auto& [problems, warnings] = report;
  if (common.json) {
    nlohmann::json rows = nlohmann::json::array();
    for (const Error& p : problems)
      rows.push_back({{"where", p.where.empty() ? path : p.where}, {"message", p.message}});
    FOVEA_RETURN_IF_ERROR(
        print_json({{"ok", problems.empty()}, {"path", path}, {"problems", rows}, {"warnings", warnings}}));
  } else {
    for (const std::string& warning : warnings) {
      if (!common.quiet && !options.strict) tell("warning: {}", warning);
    }
    if (problems.empty()) return print("ok\n");
    if (problems.size() > 1) {
      for (const Error& p : problems) FOVEA_RETURN_IF_ERROR(print(escaped_line(p.message) + "\n"));
    }
  }
  if (problems.empty()) return {};
  Error first = problems[0];
  if (problems.size() > 1) first.message += fmt::format(" (the first of {} problems)", problems.size());
  return first;
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  sub.add_option("PATH", options->path, "a .gguf file, a Hugging Face folder, or a name from `fovea list`");
  sub.add_flag("--strict", options->strict, "what is otherwise a warning is a problem");
  sub.add_flag("--limits", options->limits, "print the caps on what a file may hold");
  sub.add_flag("--families", options->families, "print which families of models run, and what of them is refused");
  return [options, &common] { return check(*options, common); };
}

FOVEA_COMMAND("check", "validate a model file without running it", "fovea check smollm2-135m", setup)

}  // namespace check_command
}  // namespace fovea::cli
