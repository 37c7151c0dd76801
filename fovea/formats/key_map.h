// Metadata of a model by GGUF's keys where the files say it in JSON: what ModelSource asks of any format.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::formats {

class KeyMap {
 public:
  explicit KeyMap(std::string name = {});  // of the files, quoted, for messages
  ~KeyMap();
  KeyMap(KeyMap&&) noexcept;
  KeyMap& operator=(KeyMap&&) noexcept;

  // `origin` says in messages where the value stands ("num_hidden_layers of config.json"). False: the key was there,
  // and keeps its value.
  bool put(const std::string& key, nlohmann::ordered_json value, const std::string& origin);
  void erase(std::string_view key);
  const nlohmann::ordered_json* find(std::string_view key) const;  // null: it is not there

  // As in ModelSource.
  bool has(std::string_view key) const { return find(key) != nullptr; }
  std::vector<std::string> keys_under(std::string_view prefix) const;
  Result<uint64_t> get_u64(std::string_view key) const;
  Result<int64_t> get_i64(std::string_view key) const;
  Result<double> get_f64(std::string_view key) const;
  Result<bool> get_bool(std::string_view key) const;
  Result<std::string> get_string(std::string_view key) const;
  Result<std::vector<std::string_view>> get_strings(std::string_view key) const;
  Result<std::vector<double>> get_f64s(std::string_view key) const;
  Result<std::vector<int64_t>> get_i64s(std::string_view key) const;
  std::string text_of(std::string_view key) const;
  std::string called(std::string_view key) const;  // its origin; of one that is not there, what config.json calls it

 private:
  struct Values;
  Result<const nlohmann::ordered_json*> need(std::string_view key, std::string_view wanted) const;
  Error wrong_kind(std::string_view key, std::string_view wanted) const;
  std::string name_;
  std::unique_ptr<Values> values_;
};

}  // namespace fovea::formats
