// For tests: a profile with every column that there is, so that each method that needs one can run.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "fovea/attention/shape.h"
#include "fovea/probe/measures/profile.h"

namespace fovea::probe {

// Values from 0 to 0.7, so that some heads are above others.
inline std::shared_ptr<const attention::HeadProfile> made_up_profile(const attention::ModelShape& shape) {
  auto profile = std::make_shared<attention::HeadProfile>();
  profile->n_layers = shape.n_layers, profile->n_heads = shape.n_heads, profile->n_kv_heads = shape.n_kv_heads;
  for (const auto& [name, column] : profile_columns()) {
    std::vector<double> values(profile->size(column.of));
    for (size_t i = 0; i < values.size(); ++i) values[i] = 0.1 * static_cast<double>(i * 5 % 8);
    set_column(*profile, name, std::move(values));
  }
  return profile;
}

}  // namespace fovea::probe
