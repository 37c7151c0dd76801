#include "fovea/models/support/keys.h"

#include <fmt/format.h>

#include <algorithm>

#include "fovea/base/bytes.h"
#include "fovea/models/family.h"

namespace fovea::models {

bool Keys::lists(std::string_view key) const {
  const auto family = family_registry().find(architecture_);
  if (family == family_registry().end()) return false;
  return std::any_of(family->second.keys.begin(), family->second.keys.end(),
                     [&](const FamilyKey& known) { return known.name == key && known.use == FamilyKey::Use::kRead; });
}

Error Keys::problem(ErrorCode code, std::string_view key, std::string_view what) const {
  return Error{code, fmt::format("{}: {} {}", source_.name(), source_.called(name(key)), what), name(key)};
}

Result<int64_t> Keys::size(std::string_view key, int64_t min, int64_t max) const {
  FOVEA_ASSIGN_OR_RETURN(const uint64_t n, source_.get_u64(name(key)));
  if (n >= static_cast<uint64_t>(min) && n <= static_cast<uint64_t>(max)) return static_cast<int64_t>(n);
  return problem(n > static_cast<uint64_t>(max) ? ErrorCode::kLimit : ErrorCode::kData, key,
                 fmt::format("is {}; {} to {} are allowed", n, min, max));
}

Result<int64_t> Keys::size_or(std::string_view key, int64_t otherwise, int64_t min, int64_t max) const {
  if (!has(key)) return otherwise;
  return size(key, min, max);
}

Result<double> Keys::number(std::string_view key, double min, double max) const {
  FOVEA_ASSIGN_OR_RETURN(const double x, source_.get_f64(name(key)));
  if (x >= min && x <= max) return x;  // false for NaN
  return problem(ErrorCode::kData, key, fmt::format("is {}; {} to {} are allowed", x, min, max));
}

Result<double> Keys::number_or(std::string_view key, double otherwise, double min, double max) const {
  if (!has(key)) return otherwise;
  return number(key, min, max);
}

Result<bool> Keys::flag_or(std::string_view key, bool otherwise) const {
  if (!has(key)) return otherwise;
  return source_.get_bool(name(key));
}

Result<std::string> Keys::text_or(std::string_view key, std::string_view otherwise) const {
  if (!has(key)) return std::string(otherwise);
  return source_.get_string(name(key));
}

Status Keys::check_count(std::string_view key, size_t found, size_t wanted) const {
  if (found == wanted) return {};
  return problem(ErrorCode::kData, key, fmt::format("has {} values; {} are needed", found, wanted));
}

Result<std::vector<int64_t>> Keys::integers(std::string_view key, size_t n) const {
  FOVEA_ASSIGN_OR_RETURN(std::vector<int64_t> values, source_.get_i64s(name(key)));
  FOVEA_RETURN_IF_ERROR(check_count(key, values.size(), n));
  return values;
}

Result<std::vector<double>> Keys::numbers(std::string_view key, size_t n) const {
  FOVEA_ASSIGN_OR_RETURN(std::vector<double> values, source_.get_f64s(name(key)));
  FOVEA_RETURN_IF_ERROR(check_count(key, values.size(), n));
  return values;
}

Result<std::vector<std::string_view>> Keys::texts(std::string_view key, size_t n) const {
  FOVEA_ASSIGN_OR_RETURN(std::vector<std::string_view> values, source_.get_strings(name(key)));
  FOVEA_RETURN_IF_ERROR(check_count(key, values.size(), n));
  return values;
}

}  // namespace fovea::models
