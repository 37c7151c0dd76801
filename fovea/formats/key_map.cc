#include "fovea/formats/key_map.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/formats/hf_config.h"

namespace fovea::formats {
namespace {
using Json = nlohmann::ordered_json;
}  // namespace

struct KeyMap::Values {
  struct Value {
    Json json;
    std::string origin;
  };
  std::map<std::string, Value, std::less<>> by_key;
};

KeyMap::KeyMap(std::string name) : name_(std::move(name)), values_(std::make_unique<Values>()) {}
KeyMap::~KeyMap() = default;
KeyMap::KeyMap(KeyMap&&) noexcept = default;
KeyMap& KeyMap::operator=(KeyMap&&) noexcept = default;

bool KeyMap::put(const std::string& key, Json value, const std::string& origin) {
  return values_->by_key.try_emplace(key, Values::Value{std::move(value), origin}).second;
}

void KeyMap::erase(std::string_view key) {
  if (const auto it = values_->by_key.find(key); it != values_->by_key.end()) values_->by_key.erase(it);
}

const Json* KeyMap::find(std::string_view key) const {
  const auto it = values_->by_key.find(key);
  return it == values_->by_key.end() ? nullptr : &it->second.json;
}

std::vector<std::string> KeyMap::keys_under(std::string_view prefix) const {
  std::vector<std::string> keys;
  const auto& map = values_->by_key;
  for (auto it = map.lower_bound(prefix); it != map.end() && it->first.starts_with(prefix); ++it)
    keys.push_back(it->first);
  return keys;
}

Error KeyMap::wrong_kind(std::string_view key, std::string_view wanted) const {
  const auto it = values_->by_key.find(key);
  const Json& json = it->second.json;
  const std::string found = json.is_primitive()
                                ? escaped_line(json.dump(-1, ' ', false, Json::error_handler_t::replace))
                                : std::string(json.is_array() ? "an array" : "an object");
  return Error{
      ErrorCode::kData,
      fmt::format("{}: {} is {}, not {}", name_, called(key), found.size() > 120 ? "a long text" : found, wanted),
      std::string(key)};
}

Result<const Json*> KeyMap::need(std::string_view key, std::string_view wanted) const {
  if (const Json* json = find(key)) return json;
  return Error{ErrorCode::kData, fmt::format("{}: {} is missing ({})", name_, called(key), wanted), std::string(key)};
}

std::string KeyMap::called(std::string_view key) const {
  if (const auto it = values_->by_key.find(key); it != values_->by_key.end() && !it->second.origin.empty())
    return it->second.origin;
  const size_t dot = key.find('.');
  const std::string_view field = dot == key.npos ? "" : word_of(key.substr(dot + 1), key.substr(0, dot));
  return field.empty() ? "key " + quote(key) : fmt::format("{} of config.json", field);
}

std::string KeyMap::text_of(std::string_view key) const {
  const Json* json = find(key);
  if (!json) return {};
  if (json->is_array()) return "an array";
  if (json->is_object()) return "an object";
  if (json->is_string()) return json->get<std::string>();
  if (json->is_number_float()) return fmt::format("{}", json->get<double>());
  return json->dump();
}

Result<uint64_t> KeyMap::get_u64(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Json* json, need(key, "an integer"));
  if (!json->is_number_integer()) return wrong_kind(key, "an integer");
  if (!json->is_number_unsigned() && json->get<int64_t>() < 0) return wrong_kind(key, "0 or more");
  return json->get<uint64_t>();
}

Result<int64_t> KeyMap::get_i64(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Json* json, need(key, "an integer"));
  if (!json->is_number_integer() || (json->is_number_unsigned() && json->get<uint64_t>() > INT64_MAX))
    return wrong_kind(key, "an integer below 2^63");
  return json->get<int64_t>();
}

Result<double> KeyMap::get_f64(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Json* json, need(key, "a number"));
  if (!json->is_number()) return wrong_kind(key, "a number");
  return json->get<double>();
}

Result<bool> KeyMap::get_bool(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Json* json, need(key, "a bool"));
  if (!json->is_boolean()) return wrong_kind(key, "a bool");
  return json->get<bool>();
}

Result<std::string> KeyMap::get_string(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Json* json, need(key, "a string"));
  if (!json->is_string()) return wrong_kind(key, "a string");
  return json->get<std::string>();
}

Result<std::vector<std::string_view>> KeyMap::get_strings(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Json* json, need(key, "an array of strings"));
  if (!json->is_array()) return wrong_kind(key, "an array of strings");
  std::vector<std::string_view> out;
  for (const Json& text : *json) {
    if (!text.is_string()) return wrong_kind(key, "an array of strings");
    out.push_back(text.get_ref<const std::string&>());
  }
  return out;
}

Result<std::vector<double>> KeyMap::get_f64s(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Json* json, need(key, "an array of numbers"));
  if (!json->is_array()) return wrong_kind(key, "an array of numbers");
  std::vector<double> out;
  for (const Json& n : *json) {
    if (!n.is_number()) return wrong_kind(key, "an array of numbers");
    out.push_back(n.get<double>());
  }
  return out;
}

Result<std::vector<int64_t>> KeyMap::get_i64s(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Json* json, need(key, "an array of integers"));
  if (!json->is_array()) return wrong_kind(key, "an array of integers");
  std::vector<int64_t> out;
  for (const Json& n : *json) {
    const bool whole = n.is_number_integer() && !(n.is_number_unsigned() && n.get<uint64_t>() > INT64_MAX);
    if (!whole && !n.is_boolean()) return wrong_kind(key, "an array of integers");
    out.push_back(n.is_boolean() ? int64_t{n.get<bool>()} : n.get<int64_t>());
  }
  return out;
}

}  // namespace fovea::formats
