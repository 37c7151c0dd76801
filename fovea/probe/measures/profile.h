// Head profiles: what was measured about the heads, layers and whole of a model file, kept as JSON, one file per
// SHA-256 of the model. Methods, evidence and masking learn about heads from here and nowhere else.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/attention/shape.h"
#include "fovea/base/result.h"
#include "fovea/engine/model.h"
#include "fovea/probe/measures/column.h"
#include "fovea/tasks/needle.h"
#include "fovea/tensor/adapters.h"

namespace fovea::probe {

struct ProfileOptions {
  tasks::NeedleOptions needle;
  std::vector<engine::Document> haystacks;  // none: tasks::default_haystacks()
  kernels::Numerics numerics = kernels::Numerics::kFast;
  std::string engine_version, command;  // written into the profile
  std::function<void(int64_t done, int64_t total, int64_t accepted)> progress;
  const std::atomic<bool>* cancel = nullptr;
  std::shared_ptr<const tensor::Adapters> adapters = nullptr;      // of the model: what is measured is another one
  std::shared_ptr<const attention::HeadProfile> before = nullptr;  // whose trained columns stay
};

// What one prompt of the needle task showed.
struct ProfileSample {
  size_t prompt = 0;  // index into the prompts
  std::string text;
  double recall = 0;
  bool accepted = false;
  std::vector<double> scores;        // of every head, if accepted
  std::vector<double> scores_moved;  // with the needle's label at another random place: the negative control
};

inline constexpr uint64_t kMaxProfileBytes = uint64_t{64} << 20;  // of a file

const Columns& profile_columns();  // all that are measured, by name

struct MeasuredProfile {
  attention::HeadProfile heads;  // those of the needle task only if a sample was accepted
  std::vector<tasks::NeedlePrompt> prompts;
  std::vector<ProfileSample> samples;
  std::string json;  // the file
};
// The needle task for retrieval heads (needle_columns.h), then short runs for the other columns (pattern_columns.h,
// repeat_columns.h).
Result<MeasuredProfile> measure_profile(std::shared_ptr<const engine::Model> model,
                                        const tokenizers::Tokenizer& tokenizer, const ProfileOptions& options);

// The text of a profile's file. `measured`: how, an object.
std::string profile_json(const attention::HeadProfile& heads, const nlohmann::ordered_json& measured);

// Where the profile of a model is cached: in the folder `profiles` of the model store.
Result<std::string> profile_cache_path(std::string_view model_sha256);

struct ShippedProfile {
  std::string_view file_name, json;
};
std::span<const ShippedProfile> shipped_profiles();  // profiles/*.json of the source tree, built in

// The profile of this model file, with these adapters: the cached one, else the shipped one. kNotFound says how to make
// it; kData if the cached one is broken or was made for another file.
struct FoundProfile {
  std::string name;  // its path, or the name of a shipped one
  std::string json;
  std::shared_ptr<const attention::HeadProfile> heads;
};
Result<FoundProfile> find_profile(const engine::Model& model, const tensor::Adapters* adapters = nullptr);

// The file again, with a plan of spans as columns.
struct MoaPlan;  // moa_plan.h
Result<std::string> with_plan(const FoundProfile& profile, const MoaPlan& plan);

}  // namespace fovea::probe
