#include "fovea/tokenizers/json_fields.h"

#include "fovea/base/bytes.h"

namespace fovea::tokenizers {

std::string shown(const Json& value) {
  if (value.is_string()) return quote(value.get_ref<const std::string&>());
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  return value.dump();
}

Result<JsonFields> JsonFields::of(const Json& value, std::string file, std::string path) {
  if (!value.is_object())
    return Error{ErrorCode::kData, fmt::format("{}: {} is {}; it has to be an object", file, path, shown(value)), path};
  JsonFields fields;
  fields.value_ = &value;
  fields.file_ = std::move(file);
  fields.path_ = std::move(path);
  return fields;
}

Error JsonFields::wrong(const char* key, std::string_view wanted, const Json& found) const {
  return Error{ErrorCode::kData, fmt::format("{}: {} is {}; it has to be {}", file_, path(key), shown(found), wanted),
               path(key)};
}
Error JsonFields::unsupported(const char* key, std::string_view what) const {
  return Error{ErrorCode::kUnsupported, fmt::format("{}: {} {}", file_, path(key), what), path(key)};
}

const Json* JsonFields::find(const char* key) {
  asked_.insert(key);
  const auto it = value_->find(key);
  return it == value_->end() || it->is_null() ? nullptr : &*it;
}

Result<std::string> JsonFields::text(const char* key) {
  const Json* found = find(key);
  if (!found) return Error{ErrorCode::kData, fmt::format("{}: {} is missing", file_, path(key)), path(key)};
  if (!found->is_string()) return wrong(key, "a string", *found);
  return found->get<std::string>();
}
Result<std::string> JsonFields::text(const char* key, std::string_view otherwise) {
  if (!find(key)) return std::string(otherwise);
  return text(key);
}
Result<bool> JsonFields::flag(const char* key, bool otherwise) {
  const Json* found = find(key);
  if (!found) return otherwise;
  if (!found->is_boolean()) return wrong(key, "true or false", *found);
  return found->get<bool>();
}
Result<uint64_t> JsonFields::count(const char* key, uint64_t otherwise) {
  const Json* found = find(key);
  if (!found) return otherwise;
  if (!found->is_number_unsigned()) return wrong(key, "a number that is not negative", *found);
  return found->get<uint64_t>();
}
Result<const Json*> JsonFields::list(const char* key) {
  const Json* found = find(key);
  if (!found) return Error{ErrorCode::kData, fmt::format("{}: {} is missing", file_, path(key)), path(key)};
  if (!found->is_array()) return wrong(key, "an array", *found);
  return found;
}

Status JsonFields::finish() const {
  for (const auto& [key, value] : value_->items()) {
    if (asked_.find(key) == asked_.end()) {
      const std::string at = fmt::format("{}.{}", path_, escaped_line(key));
      return Error{ErrorCode::kUnsupported, fmt::format("{}: {} is not known", file_, at), at};
    }
  }
  return {};
}

}  // namespace fovea::tokenizers
