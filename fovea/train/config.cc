#include "fovea/train/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace fovea::train {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kMayChange[] = {"steps",      "checkpoint_every", "keep_every", "eval",
                                           "early_stop", "max_loss",         "out"};

std::string difference(const Json& then, const Json& now, const std::string& path) {
  if (then == now) return "";
  if (!then.is_object() || !now.is_object())
    return fmt::format("{} is {}, and was {}", path, now.is_null() ? "not set" : now.dump(),
                       then.is_null() ? "not set" : then.dump());
  const auto value = [](const Json& object, const std::string& key) {
    return object.contains(key) ? object[key] : Json();
  };
  for (const Json* side : {&then, &now}) {
    for (const auto& [key, unused] : side->items()) {
      if (path.empty() && std::find(std::begin(kMayChange), std::end(kMayChange), key) != std::end(kMayChange))
        continue;
      const std::string found = difference(value(then, key), value(now, key), path.empty() ? key : path + "." + key);
      if (!found.empty()) return found;
    }
  }
  return "";
}

}  // namespace

TrainConfig::TrainConfig(Settings& s)
    : context(s.integer("context", 0, 1, 1 << 24)),
      batch(s.integer("batch", 1, 1, 1 << 20)),
      accumulate(s.integer("accumulate", 1, 1, 1 << 20)),
      steps(s.integer("steps", std::nullopt, 1, int64_t{1} << 40)),
      checkpoint_every(s.integer("checkpoint_every", 500, 1, int64_t{1} << 40)),
      keep_every(s.integer("keep_every", 0, 0, int64_t{1} << 40)),
      shuffled(s.one_of("order", "sequential", {"sequential", "shuffled"}) == "shuffled"),
      recompute(s.flag("recompute", false)),
      seed(static_cast<uint64_t>(s.integer("seed", 0, 0, INT64_MAX))),
      trainer{.clip = s.number("clip", 0, 0, 1e12),
              .clip_value = s.number("clip_value", 0, 0, 1e12),
              .ema = s.number("ema", 0, 0, 0.9999999)},
      max_loss(s.number("max_loss", 0, 0, 1e30)),
      out(s.text("out", std::nullopt)) {
  if (s.good() && out.empty()) s.wrong("out", "is empty; a folder is needed");
  if (s.has("eval")) {
    Settings e = s.object("eval");
    eval = {true, e.integer("every", std::nullopt, 1, int64_t{1} << 40), e.integer("samples", 0, 1, 1 << 30)};
    if (!e.has("data")) e.wrong("data", "is missing");
  }
  if (s.has("early_stop")) {
    Settings e = s.object("early_stop");
    early_stop = {e.integer("patience", std::nullopt, 1, 1 << 30), e.number("min_delta", 0, 0, 1e6)};
    if (!eval.on) s.wrong("early_stop", "needs an eval");
  }
}

std::string other_setting(const Json& then, const Json& now) { return difference(then, now, ""); }

}  // namespace fovea::train
