#include "fovea/train/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fovea/base/bytes.h"
#include "fovea/base/nearest.h"

namespace fovea::train {
namespace {

using Json = nlohmann::ordered_json;

// What a message says of a value, short.
std::string shown(const Json& value) {
  if (value.is_string()) return quote(value.get_ref<const std::string&>(), 60);
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  return value.dump();
}

std::string range(double min, double max) {
  return std::isinf(max) ? fmt::format("{} or more", min) : fmt::format("{} to {}", min, max);
}

// What other trainers call a setting or a value, and what it is called here.
constexpr std::pair<std::string_view, std::string_view> kSynonyms[] = {
    // the run
    {"learning_rate", "lr"},
    {"epochs", "steps"},
    {"num_epochs", "steps"},
    {"num_train_epochs", "steps"},
    {"max_steps", "steps"},
    {"iterations", "steps"},
    {"max_iters", "steps"},
    {"batch_size", "batch"},
    {"train_batch_size", "batch"},
    {"per_device_train_batch_size", "batch"},
    {"micro_batch_size", "batch"},
    {"gradient_accumulation_steps", "accumulate"},
    {"gradient_accumulation", "accumulate"},
    {"grad_accum", "accumulate"},
    {"max_grad_norm", "clip"},
    {"grad_clip", "clip"},
    {"gradient_clip_val", "clip"},
    {"gradient_checkpointing", "recompute"},
    {"optim", "optimizer"},
    {"lr_scheduler", "schedule"},
    {"lr_scheduler_type", "schedule"},
    {"scheduler", "schedule"},
    {"warmup_steps", "warmup"},
    {"num_warmup_steps", "warmup"},
    {"warmup_ratio", "warmup"},
    {"wd", "weight_decay"},
    {"adam_epsilon", "eps"},
    {"epsilon", "eps"},
    {"beta1", "betas"},
    {"beta2", "betas"},
    {"adam_beta1", "betas"},
    {"adam_beta2", "betas"},
    {"output_dir", "out"},
    {"output", "out"},
    {"save_steps", "checkpoint_every"},
    {"eval_steps", "every"},
    {"random_seed", "seed"},
    {"shuffle", "order"},
    {"loss", "losses"},
    {"label_smoothing", "smoothing"},
    // data
    {"dataset", "data"},
    {"train_data", "data"},
    {"train", "data"},
    {"validation", "eval"},
    {"val", "eval"},
    {"seq_len", "context"},
    {"seq_length", "context"},
    {"sequence_length", "context"},
    {"block_size", "context"},
    {"max_length", "context"},
    {"max_seq_length", "context"},
    {"context_length", "context"},
    // sizes and adapters
    {"lora_r", "rank"},
    {"lora_rank", "rank"},
    {"r", "rank"},
    {"lora_alpha", "alpha"},
    {"target_modules", "targets"},
    {"num_layers", "n_layers"},
    {"num_hidden_layers", "n_layers"},
    {"depth", "n_layers"},
    {"num_heads", "n_heads"},
    {"num_attention_heads", "n_heads"},
    {"num_key_value_heads", "n_kv_heads"},
    {"hidden_size", "d_model"},
    {"n_embd", "d_model"},
    {"dim", "d_model"},
    {"intermediate_size", "d_ff"},
    {"max_position_embeddings", "n_ctx"},
    {"tie_word_embeddings", "tied"},
    {"num_classes", "classes"},
    {"num_labels", "classes"},
    {"num_virtual_tokens", "tokens"},
    {"prompt_tuning_init_text", "text"},
    {"image_size", "size"},
    {"patch_size", "patch"},
    // values
    {"adamw_torch", "adamw"},
    {"adamw_hf", "adamw"},
    {"momentum", "sgd"},
    {"cosine_with_warmup", "cosine"},
    {"cosine_annealing", "cosine"},
    {"constant_with_warmup", "constant"},
    {"none", "constant"},
    {"onecycle", "one-cycle"},
    {"cross_entropy", "next-token"},
    {"ce", "next-token"},
    {"kl", "distill"},
    {"kd", "distill"},
    {"random", "shuffled"},
    {"transformer", "llama"},
    {"gpt", "llama"},
    {"decoder", "llama"},
    {"resnet", "cnn"},
    {"convnet", "cnn"},
    {"rnn", "lstm"},
};

// What other trainers have and this one has not, and why nobody misses it.
constexpr std::string_view kNoDropout = "nothing is dropped out here; weight_decay, ema and early_stop are there";
constexpr std::string_view kFloat32 = "all is computed in float32";
constexpr std::string_view kCpu = "training runs on the CPU, with as many threads as -t says";
constexpr std::string_view kAlwaysLogged = "every step is in log.jsonl, and the curves are in report.html";
constexpr std::pair<std::string_view, std::string_view> kAbsent[] = {
    {"dropout", kNoDropout},
    {"attention_dropout", kNoDropout},
    {"lora_dropout", kNoDropout},
    {"bf16", kFloat32},
    {"fp16", kFloat32},
    {"dtype", kFloat32},
    {"torch_dtype", kFloat32},
    {"mixed_precision", kFloat32},
    {"device", kCpu},
    {"num_workers", kCpu},
    {"dataloader_num_workers", kCpu},
    {"logging_steps", kAlwaysLogged},
    {"log_every", kAlwaysLogged},
    {"report_to", kAlwaysLogged},
    {"save_total_limit", "the last checkpoint alone is kept; keep_every keeps models"},
};

// What is called so here; empty: nothing that is known.
std::vector<std::string_view> meant_by(std::string_view name) {
  std::vector<std::string_view> out;
  for (const auto& [theirs, ours] : kSynonyms) {
    if (edit_distance(name, theirs) == 0) out.push_back(ours);
  }
  return out;
}

}  // namespace

struct Settings::Shared {
  struct Object {
    std::shared_ptr<const Json> json;
    std::string prefix;
    std::set<std::string, std::less<>> asked;  // keys that somebody looked for
  };
  std::string name;
  std::optional<Error> first;
  std::vector<Object> objects;

  // The setting that other trainers call `key`: of this object before those of another. Empty: none.
  std::string setting_for(std::string_view key, const Object& here) const {
    auto meant = meant_by(key);
    if (here.prefix.empty() && key != "name") meant.push_back(key);  // "lr", which is one of the optimizer
    std::string found;
    for (const std::string_view ours : meant) {
      if (here.asked.contains(ours)) return here.prefix + std::string(ours);
      for (const Object& other : objects) {
        if (found.empty() && other.asked.contains(ours)) found = other.prefix + std::string(ours);
      }
    }
    return found;
  }
};

Settings::Settings(const Json& object, const std::string& name)
    : shared_(std::make_shared<Shared>()), json_(std::make_shared<Json>(object)) {
  shared_->name = name;
  if (!json_->is_object()) {
    shared_->first =
        make_error(ErrorCode::kUsage, "{}: {} stands where an object of settings is needed", name, shown(*json_));
    json_ = std::make_shared<Json>(Json::object());
  }
  shared_->objects.push_back({json_, "", {}});
}
Settings::~Settings() = default;
Settings::Settings(const Settings&) = default;

const Json& Settings::json() const { return *json_; }
bool Settings::good() const { return !shared_->first; }
std::string Settings::path_of(std::string_view key) const { return prefix_ + std::string(key); }

const Json* Settings::find(std::string_view key) {
  shared_->objects[index_].asked.emplace(key);
  const auto it = json_->find(key);
  return it == json_->end() || it->is_null() ? nullptr : &*it;
}
bool Settings::has(std::string_view key) const {
  const auto it = json_->find(key);
  return it != json_->end() && !it->is_null();
}
const Json* Settings::any(std::string_view key) { return find(key); }

void Settings::refuse(Error error) {
  if (!shared_->first) shared_->first = std::move(error);
}
void Settings::wrong(std::string_view key, const std::string& what) {
  refuse({ErrorCode::kUsage, fmt::format("{}: {} {}", shared_->name, path_of(key), what), path_of(key)});
}
void Settings::unknown_name(std::string_view key, std::string_view name, const std::vector<std::string>& names) {
  const auto near = meant_name(name, names);
  for (const std::string_view meant : meant_by(name)) {
    if (const auto it = std::find(names.begin(), names.end(), meant); it != names.end())
      return wrong(key, fmt::format("is {}; there {} {}; that is {} here", quote(name),
                                    names.size() == 1 ? "is" : "are", fmt::join(names, ", "), *it));
  }
  wrong(key, fmt::format("is {}; there {} {}{}", quote(name), names.size() == 1 ? "is" : "are", fmt::join(names, ", "),
                         near ? fmt::format("; did you mean {}?", *near) : ""));
}

void Settings::missing(std::string_view key, const std::string& wanted) {
  for (const auto& [theirs, value] : json_->items()) {
    const auto meant = meant_by(theirs);
    if (std::find(meant.begin(), meant.end(), key) != meant.end())
      return wrong(escaped_line(theirs), fmt::format("is no setting here; it is {}", path_of(key)));
  }
  wrong(key, fmt::format("is missing; {} is needed", wanted));
}

double Settings::number(std::string_view key, std::optional<double> otherwise, double min, double max) {
  const Json* value = find(key);
  if (!value) {
    if (!otherwise) missing(key, fmt::format("a number, {},", range(min, max)));
    return otherwise.value_or(min);
  }
  if (!value->is_number()) {
    wrong(key, fmt::format("is {}; a number, {}, is needed", shown(*value), range(min, max)));
    return min;
  }
  const double x = value->get<double>();
  if (!(x >= min && x <= max)) wrong(key, fmt::format("is {}; it may be {}", value->dump(), range(min, max)));
  return x;
}

int64_t Settings::integer(std::string_view key, std::optional<int64_t> otherwise, int64_t min, int64_t max) {
  const Json* value = find(key);
  if (!value) {
    if (!otherwise) {
      missing(key, fmt::format("a whole number from {} to {}", min, max));
    } else if (max < min) {  // what depends on another size: symbols, on the vocabulary of a net that reads no tokens
      wrong(key, fmt::format("has no value that fits this model: it would be {} to {}", min, max));
    }
    return otherwise.value_or(min);
  }
  const bool whole = value->is_number_integer() ||
                     (value->is_number_float() && value->get<double>() == std::floor(value->get<double>()) &&
                      std::abs(value->get<double>()) < 1e15);
  if (!whole) {
    wrong(key, fmt::format("is {}; a whole number from {} to {} is needed", shown(*value), min, max));
    return min;
  }
  const bool huge = value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX;
  const auto x = value->is_number_float() ? static_cast<int64_t>(value->get<double>()) : value->get<int64_t>();
  if (huge || x < min || x > max) {
    wrong(key, fmt::format("is {}; it may be {} to {}", value->dump(), min, max));
    return min;
  }
  return x;
}

bool Settings::flag(std::string_view key, bool otherwise) {
  const Json* value = find(key);
  if (!value) return otherwise;
  if (!value->is_boolean()) {
    wrong(key, fmt::format("is {}; true or false is needed", shown(*value)));
    return otherwise;
  }
  return value->get<bool>();
}

std::string Settings::text(std::string_view key, std::optional<std::string> otherwise) {
  const Json* value = find(key);
  if (!value) {
    if (!otherwise) missing(key, "a text");
    return otherwise.value_or("");
  }
  if (!value->is_string()) {
    wrong(key, fmt::format("is {}; a text is needed", shown(*value)));
    return "";
  }
  return value->get<std::string>();
}

std::string Settings::one_of(std::string_view key, std::string_view otherwise,
                             const std::vector<std::string>& allowed) {
  const std::string found = text(key, std::string(otherwise));
  for (const std::string& one : allowed) {
    if (one == found) return found;
  }
  unknown_name(key, found, allowed);
  return std::string(otherwise);
}

std::vector<std::string> Settings::texts(std::string_view key, const std::vector<std::string>& otherwise) {
  const Json* value = find(key);
  if (!value) return otherwise;
  if (value->is_string()) return {value->get<std::string>()};
  bool good = value->is_array() && !value->empty();
  for (const Json& one : *value) good = good && one.is_string();
  if (!good) {
    wrong(key, fmt::format("is {}; a text or a list of texts is needed",
                           value->is_array() && value->empty() ? "empty" : shown(*value)));
    return otherwise;
  }
  return value->get<std::vector<std::string>>();
}

std::vector<double> Settings::numbers(std::string_view key, const std::vector<double>& otherwise, double min,
                                      double max) {
  const Json* value = find(key);
  if (!value) return otherwise;
  bool good = value->is_array() && value->size() == otherwise.size();
  for (const Json& one : *value) good = good && one.is_number() && one.get<double>() >= min && one.get<double>() <= max;
  if (!good) {
    wrong(key,
          fmt::format("is {}; a list of {} numbers, {}, is needed", value->dump(), otherwise.size(), range(min, max)));
    return otherwise;
  }
  return value->get<std::vector<double>>();
}

std::vector<int64_t> Settings::integers(std::string_view key, const std::vector<int64_t>& otherwise, int64_t min,
                                        int64_t max) {
  const Json* value = find(key);
  if (!value) return otherwise;
  bool good = value->is_array() && !value->empty();
  for (const Json& one : *value)
    good = good && one.is_number_integer() && one.get<int64_t>() >= min && one.get<int64_t>() <= max;
  if (!good) {
    wrong(key, fmt::format("is {}; a list of whole numbers from {} to {} is needed", value->dump(), min, max));
    return otherwise;
  }
  return value->get<std::vector<int64_t>>();
}

Settings Settings::object(std::string_view key) {
  const Json* value = find(key);
  Settings out;
  out.shared_ = shared_;
  out.prefix_ = path_of(key) + ".";
  if (value && !value->is_object()) {
    const bool named = value->is_string() && (key == "optimizer" || key == "schedule");
    wrong(key, fmt::format("is {}; an object is needed{}", shown(*value),
                           named ? fmt::format(", such as {{\"name\": {}}}", shown(*value)) : ""));
  }
  for (size_t i = 0; i < shared_->objects.size(); ++i) {  // asked for before: what was read of it counts
    if (shared_->objects[i].prefix != out.prefix_) continue;
    out.json_ = shared_->objects[i].json;
    out.index_ = i;
    return out;
  }
  out.json_ = std::make_shared<Json>(value && value->is_object() ? *value : Json::object());
  out.index_ = shared_->objects.size();
  shared_->objects.push_back({out.json_, out.prefix_, {}});
  return out;
}

std::vector<Settings> Settings::objects(std::string_view key) {
  const Json* value = find(key);
  std::vector<Settings> out;
  if (!value) return out;
  if (!value->is_array() || value->empty()) {
    wrong(key, fmt::format("is {}; a list of objects is needed", value->is_array() ? "empty" : shown(*value)));
    return out;
  }
  for (size_t i = 0; i < value->size(); ++i) {
    Settings one;
    one.shared_ = shared_;
    one.prefix_ = fmt::format("{}[{}].", path_of(key), i);
    if (!(*value)[i].is_object()) wrong(fmt::format("{}[{}]", key, i), "is no object");
    one.json_ = std::make_shared<Json>((*value)[i].is_object() ? (*value)[i] : Json::object());
    one.index_ = shared_->objects.size();
    shared_->objects.push_back({one.json_, one.prefix_, {}});
    out.push_back(std::move(one));
  }
  return out;
}

Status Settings::finish() const {
  if (shared_->first) return *shared_->first;
  for (const Shared::Object& object : shared_->objects) {
    for (const auto& [key, value] : object.json->items()) {
      if (object.asked.contains(key)) continue;
      if (const std::string meant = shared_->setting_for(key, object); !meant.empty())
        return Error{
            ErrorCode::kUsage,
            fmt::format("{}: {} is no setting here; it is {}", shared_->name, object.prefix + escaped_line(key), meant),
            object.prefix + escaped_line(key)};
      for (const auto& [theirs, why] : kAbsent) {
        if (key != theirs) continue;
        const std::string at = object.prefix + key;
        return Error{ErrorCode::kUsage, fmt::format("{}: {} is no setting here: {}", shared_->name, at, why), at};
      }
      const std::vector<std::string> known(object.asked.begin(), object.asked.end());
      const auto nearest = nearest_names(key, known, 1);
      const std::string path = object.prefix + escaped_line(key);
      return Error{ErrorCode::kUsage,
                   fmt::format("{}: {} is no setting here{}", shared_->name, path,
                               nearest.empty() ? "" : fmt::format("; the nearest is {}", nearest[0])),
                   path};
    }
  }
  return {};
}

}  // namespace fovea::train
