// One object of a training config, read key by key. The first thing that is wrong stays, and finish() says it: the
// readers themselves hand on the fallback, so that code that reads a config has no error paths of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::train {

class Settings {
 public:
  // `name` starts every message: the file, quoted.
  Settings(const nlohmann::ordered_json& object, const std::string& name);
  ~Settings();
  Settings(const Settings&);

  bool has(std::string_view key) const;
  // Without `otherwise` the key must be there.
  double number(std::string_view key, std::optional<double> otherwise, double min, double max);
  int64_t integer(std::string_view key, std::optional<int64_t> otherwise, int64_t min, int64_t max);
  bool flag(std::string_view key, bool otherwise);
  std::string text(std::string_view key, std::optional<std::string> otherwise);
  std::string one_of(std::string_view key, std::string_view otherwise, const std::vector<std::string>& allowed);
  std::vector<std::string> texts(std::string_view key, const std::vector<std::string>& otherwise);  // a list, or one
  std::vector<double> numbers(std::string_view key, const std::vector<double>& otherwise, double min, double max);
  std::vector<int64_t> integers(std::string_view key, const std::vector<int64_t>& otherwise, int64_t min, int64_t max);
  // Missing, or no object: an empty one.
  Settings object(std::string_view key);
  std::vector<Settings> objects(std::string_view key);        // a list of them
  const nlohmann::ordered_json* any(std::string_view key);    // null: it is not there
  void wrong(std::string_view key, const std::string& what);  // "FILE: optimizer.KEY WHAT"
  void unknown_name(std::string_view key, std::string_view name, const std::vector<std::string>& names);
  void refuse(Error error);

  // The first problem of the whole config, else the first key of this object that nobody read. kUsage.
  Status finish() const;
  bool good() const;
  const nlohmann::ordered_json& json() const;
  std::string path_of(std::string_view key) const;  // "optimizer.lr"

 private:
  struct Shared;
  Settings() = default;
  const nlohmann::ordered_json* find(std::string_view key);
  void missing(std::string_view key, const std::string& wanted);  // or another trainer's name stands in its place
  std::shared_ptr<Shared> shared_;
  std::shared_ptr<const nlohmann::ordered_json> json_;
  std::string prefix_;
  size_t index_ = 0;  // of what was read of this object
};

}  // namespace fovea::train
