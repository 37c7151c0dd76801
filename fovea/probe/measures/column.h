// The columns of a head profile: each is registered in the file that measures it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fovea/attention/shape.h"
#include "fovea/base/check.h"
#include "fovea/base/registry.h"

namespace fovea::probe {

struct ColumnInfo {
  attention::Granularity of;
  std::string_view help;  // one line
  bool trained = false;   // not measured: with_trained_columns() (trained_columns.h)
};
using Columns = std::map<std::string, ColumnInfo, std::less<>>;
inline Columns& column_registry() {  // read it by profile_columns() (profile.h), which links every measure
  static Columns columns;
  return columns;
}
inline bool register_column(std::string_view name, const ColumnInfo& info) {
  return add_once(column_registry(), "profile columns", name, info);
}
// FOVEA_PROFILE_COLUMN(retrieval, kHead, "mean share of the needle that the head copied");
#define FOVEA_PROFILE_COLUMN(name, granularity, help) \
  [[maybe_unused]] const bool name##_registered =     \
      ::fovea::probe::register_column(#name, {::fovea::attention::Granularity::granularity, help})

// For measures: the column must be registered and have as many values as the model asks for.
inline void set_column(attention::HeadProfile& profile, std::string_view name, std::vector<double> values) {
  const auto it = column_registry().find(name);
  FOVEA_CHECK(it != column_registry().end(), "profile: column {} is not registered", name);
  FOVEA_CHECK(values.size() == profile.size(it->second.of), "profile: column {} has {} values, wanted {}", name,
              values.size(), profile.size(it->second.of));
  profile.columns[std::string(name)] = {it->second.of, std::move(values)};
}

}  // namespace fovea::probe
