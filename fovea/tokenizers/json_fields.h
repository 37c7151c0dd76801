// Reads the objects of a JSON file strictly: each field has a kind, and a field that nobody asked for is refused by its
// path, since what it changes is not known.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>

#include "fovea/base/result.h"

namespace fovea::tokenizers {

using Json = nlohmann::ordered_json;

class JsonFields {
 public:
  // `file` begins messages; `path` is where in it the object is: ".model". Both live on in this. kData: no object.
  static Result<JsonFields> of(const Json& value, std::string file, std::string path);

  const Json* find(const char* key);                                      // nullptr: not there, or null
  Result<std::string> text(const char* key);                              // has to be there
  Result<std::string> text(const char* key, std::string_view otherwise);  // if it is missing or null
  Result<bool> flag(const char* key, bool otherwise);
  Result<uint64_t> count(const char* key, uint64_t otherwise);
  Result<const Json*> list(const char* key);  // an array; has to be there
  void skip(const char* key) { asked_.insert(key); }
  Status finish() const;  // kUnsupported: a field that is not known

  std::string path(const char* key) const { return path_ + "." + key; }
  Error wrong(const char* key, std::string_view wanted, const Json& found) const;
  Error unsupported(const char* key, std::string_view what) const;
  const std::string& where() const { return path_; }
  const std::string& file() const { return file_; }

 private:
  JsonFields() = default;
  const Json* value_ = nullptr;
  std::string file_, path_;
  std::set<std::string, std::less<>> asked_;
};

// "\"x\"", "true", "an array", for messages.
std::string shown(const nlohmann::ordered_json& value);

}  // namespace fovea::tokenizers
