// Parts of the trainer that a config chooses by name: each is one file that registers a class which reads its own
// settings in its constructor.
//
//   class AdamW final : public Optimizer { public: explicit AdamW(Settings& settings); ... };
//   FOVEA_TRAIN_PART(Optimizer, "adamw", AdamW);
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "fovea/base/registry.h"
#include "fovea/train/settings.h"

namespace fovea::train {

// `Part::Context` is what a part is made from besides its settings.
template <typename Part>
using PartMaker = std::function<std::unique_ptr<Part>(Settings&, const typename Part::Context&)>;

template <typename Part>
std::map<std::string, PartMaker<Part>, std::less<>>& parts() {
  static std::map<std::string, PartMaker<Part>, std::less<>> makers;
  return makers;
}
template <typename Part>
std::vector<std::string> part_names() {
  std::vector<std::string> names;
  for (const auto& entry : parts<Part>()) names.push_back(entry.first);
  return names;
}
// The part that `key` names; null, and the settings know why, if there is none.
template <typename Part>
std::unique_ptr<Part> make_part(Settings& settings, std::string_view key, const std::string& name,
                                const typename Part::Context& context = {}) {
  const auto it = parts<Part>().find(name);
  if (it != parts<Part>().end()) return it->second(settings, context);
  settings.unknown_name(key, name, part_names<Part>());
  return nullptr;
}

template <typename Part, typename Type>
std::unique_ptr<Part> make_of(Settings& settings, const typename Part::Context& context) {
  if constexpr (std::is_constructible_v<Type, Settings&, const typename Part::Context&>) {
    return std::make_unique<Type>(settings, context);
  } else {
    return std::make_unique<Type>(settings);
  }
}
#define FOVEA_TRAIN_PART(Part, name, Type)        \
  [[maybe_unused]] const bool Type##_registered = \
      ::fovea::add_once(::fovea::train::parts<Part>(), #Part, name, ::fovea::train::make_of<Part, Type>)

}  // namespace fovea::train
