#include "fovea/train/rigs/rig.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "fovea/base/bytes.h"
#include "fovea/base/check.h"
#include "fovea/base/file.h"
#include "fovea/base/json.h"
#include "fovea/base/log.h"
#include "fovea/base/nearest.h"
#include "fovea/store/build_id.h"
#include "fovea/store/model_store.h"

namespace fovea::train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxRecordBytes = 1 << 16;

std::string short_hash(const std::string& text) { return sha256_of(std::as_bytes(std::span(text))).substr(0, 16); }

Status check_gates(const std::string& name, const Rig& rig, const MadeRig& made) {
  if (made.reached > made.required)
    return make_error(ErrorCode::kFailed,
                      "{}: its loss on held-out data is {:.4f}, and {:.4f} is required; it lies in {}", name,
                      made.reached, made.required, quote(made.path, 4096));
  for (const RigGate& gate : rig.gates) {
    const double reached = made.measures.find(gate.measure)->second;
    if (!(reached >= gate.least))
      return make_error(ErrorCode::kFailed, "{}: its {} is {:.4f}, and {:.4f} or more is required; it lies in {}", name,
                        gate.measure, reached, gate.least, quote(made.path, 4096));
  }
  return {};
}

// What rig.json says of a rig that was made before; false: it is not as it was written.
bool read_record(const Json& kept, const Rig& rig, MadeRig& made) {
  const auto number = [](const Json& of, std::string_view key) {
    return of.is_object() && of.contains(key) && of[std::string(key)].is_number();
  };
  if (!number(kept, "reached") || !number(kept, "minutes")) return false;
  made.reached = kept["reached"], made.minutes = kept["minutes"];
  const Json measures = kept.value("measures", Json::object());
  for (const auto& [name, value] : measures.items()) {
    if (value.is_number()) made.measures[name] = value;
  }
  return std::all_of(rig.gates.begin(), rig.gates.end(),
                     [&](const RigGate& gate) { return made.measures.contains(gate.measure); });
}

// A net that begins from another rig gets its folder, and the other is made first. -> that folder's name, which has
// the hash of what the other is; empty: it begins from none.
Result<std::string> begin_from_rig(Json& config, const TrainOptions& options) {
  Json& model = config["model"];
  if (!model.is_object() || !model.contains("init") || !model["init"].contains("rig")) return std::string();
  Json& init = model["init"];
  FOVEA_ASSIGN_OR_RETURN(const MadeRig other, make_rig(init["rig"].get<std::string>(), options));
  init.erase("rig");
  init["folder"] = other.path;
  return fs::path(other.path).parent_path().filename().string();
}

}  // namespace

std::map<std::string, Rig, std::less<>>& rigs() {
  static std::map<std::string, Rig, std::less<>> all;
  return all;
}

Result<MadeRig> make_rig(std::string_view name, const TrainOptions& options) {
  const auto found = rigs().find(name);
  if (found == rigs().end()) {
    std::vector<std::string> names;
    for (const auto& [known, rig] : rigs()) names.push_back(known);
    const auto nearest = nearest_names(name, names, 1);
    return make_error(ErrorCode::kUsage, "no rig is called {}; there are {}{}", quote(name, 60), fmt::join(names, ", "),
                      nearest.empty() ? "" : fmt::format("; the nearest is {}", nearest[0]));
  }
  const auto& [own, rig] = *found;
  auto config = parse_json(rig.config, own);
  FOVEA_CHECK(config.has_value(), "the config of the rig {} is no JSON", own);
  FOVEA_ASSIGN_OR_RETURN(const std::string models, store::models_dir());
  const std::string as_it_stands = config->dump();
  FOVEA_ASSIGN_OR_RETURN(const std::string from, begin_from_rig(*config, options));
  const std::string folder =
      fmt::format("{}/rigs/{}-{}", models, own, short_hash(as_it_stands + from + store::build_id() + options.program));
  const std::string record = folder + "/rig.json";
  MadeRig made{.path = folder + "/model", .required = rig.required};
  std::error_code error;
  if (fs::exists(record, error)) {
    FOVEA_ASSIGN_OR_RETURN(const Json kept, read_json(record, kMaxRecordBytes));
    if (read_record(kept, rig, made) && fs::exists(made.path, error)) {
      FOVEA_RETURN_IF_ERROR(check_gates(own, rig, made));
      return made;
    }
    log_warning("{}: it is not as it was written; the rig is made anew", quote(record, 4096));
    fs::remove(record, error);
  }
  fs::create_directories(folder, error);
  (*config)["out"] = folder;
  const std::string path = folder + "/config.json";
  FOVEA_RETURN_IF_ERROR(write_file_atomic(path, config->dump(2) + "\n"));
  TrainOptions asked = options;
  asked.resume = fs::exists(folder + "/checkpoint", error), asked.restart = false, asked.steps = 0;
  asked.go_on = fmt::format("fovea rig {}", own);
  auto trained = train(path, asked);
  if (!trained && trained.error().code == ErrorCode::kData && asked.resume) {
    log_warning("{}; the rig is made anew", trained.error().message);
    asked.resume = false, asked.restart = true;
    fs::remove_all(folder + "/checkpoint", error);
    trained = train(path, asked);
  }
  if (!trained) return trained.error();
  const TrainResult& result = *trained;
  made.minutes = result.seconds / 60;
  made.trained = true;
  FOVEA_CHECK(result.eval_loss.has_value(), "the config of the rig {} has no eval", own);
  made.reached = *result.eval_loss;
  if (rig.measure) {
    FOVEA_ASSIGN_OR_RETURN(made.measures, rig.measure(made.path, options.cancel));
  }
  for (const RigGate& gate : rig.gates)
    FOVEA_CHECK(made.measures.contains(gate.measure), "the rig {} does not measure {}", own, gate.measure);
  const Json kept = {{"name", own},
                     {"metric", "eval_loss"},
                     {"required", made.required},
                     {"reached", made.reached},
                     {"measures", made.measures},
                     {"minutes", made.minutes}};
  FOVEA_RETURN_IF_ERROR(write_file_atomic(record, kept.dump(2) + "\n"));
  FOVEA_RETURN_IF_ERROR(check_gates(own, rig, made));
  return made;
}

}  // namespace fovea::train
