#include "fovea/attention/policy_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "fovea/base/bytes.h"
#include "fovea/base/json.h"
#include "fovea/base/text_file.h"

namespace fovea::attention {
namespace {

using Json = nlohmann::ordered_json;
constexpr uint64_t kMaxBytes = uint64_t{1} << 20;

// Where each entry of a list begins, and each key of an entry: the parser keeps no places. The text is JSON.
struct Places {
  struct Key {
    std::string name;
    size_t at;
  };
  struct Entry {
    size_t at;
    std::vector<Key> keys;
  };
  std::vector<Entry> entries;

  explicit Places(std::string_view text) {
    int depth = 0;
    bool value = true;  // at depth 1: an entry may begin; at depth 2: no key may
    for (size_t i = 0; i < text.size(); ++i) {
      const char c = text[i];
      if (c == ' ' || c == '\n' || c == '\r' || c == '\t') continue;
      if (c == ']' || c == '}') {
        --depth;
        continue;
      }
      if (c == ',' || c == ':') {
        value = c == ':' || depth == 1;
        continue;
      }
      if (depth == 1 && value) entries.push_back({i, {}});
      if (c == '[' || c == '{') {
        ++depth;
        value = depth == 1;
        continue;
      }
      const size_t begin = i;
      if (c == '"') {
        for (++i; text[i] != '"'; ++i) i += text[i] == '\\' ? 1 : 0;
        if (depth == 2 && !value)
          entries.back().keys.push_back({Json::parse(text.substr(begin, i + 1 - begin)).get<std::string>(), begin});
      } else {
        i = std::min(text.find_first_of(" \n\r\t,]}", i), text.size()) - 1;
      }
      value = false;
    }
  }
};

// The number behind the key at `at` as it is written: head 1.10 is not head 1.1.
std::string number_behind(std::string_view text, size_t at) {
  size_t end = at + 1;  // of the key, whose quote is at `at`
  while (text[end] != '"') end += text[end] == '\\' ? 2 : 1;
  const size_t begin = text.find_first_not_of(": \n\r\t", end + 1);
  return std::string(text.substr(begin, text.find_first_of(",} \n\r\t", begin) - begin));
}

}  // namespace

Result<std::vector<PolicyEntry>> read_policy_file(const std::string& path) {
  FOVEA_ASSIGN_OR_RETURN(const std::string text, read_text_file(path, {.max_bytes = kMaxBytes}));
  const std::string name = quote(path, 4096);
  const auto error_at = [&](size_t at, const std::string& what) {
    return make_error(ErrorCode::kData, "{}, {}: {}", name, place_in(text, at), what);
  };
  FOVEA_ASSIGN_OR_RETURN(const Json policy, parse_json(text, name));
  if (!policy.is_array())
    return error_at(text.find_first_not_of(" \n\r\t"),
                    "not a policy; it should read [{\"method\": NAME, KNOB: VALUE}, ...]");
  const Places places(text);
  std::vector<PolicyEntry> out;
  for (size_t i = 0; i < policy.size(); ++i) {
    const Places::Entry& entry = places.entries[i];
    const Json& json = policy[i];
    if (!json.is_object()) return error_at(entry.at, "the entry has no \"method\" string");
    if (!json.contains("method") || !json["method"].is_string())
      return error_at(entry.at, "the entry has no \"method\" string");
    PolicyEntry read{json["method"].get<std::string>(), place_in(text, entry.at), {}};
    for (const Places::Key& key : entry.keys) {
      if (key.name == "method") continue;
      const Json& value = json[key.name];
      if (!value.is_primitive() || value.is_null())
        return error_at(key.at, fmt::format("knob {} must be a number, string or switch", quote(key.name, 40)));
      const std::string written = value.is_string()         ? value.get<std::string>()
                                  : value.is_number_float() ? number_behind(text, key.at)
                                                            : value.dump();
      read.knobs.push_back({key.name, written, place_in(text, key.at)});
    }
    out.push_back(std::move(read));
  }
  return out;
}

}  // namespace fovea::attention
