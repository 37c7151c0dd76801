// The contract of a model family: one table of weights and one forward, out of ops. Header only, so
// that every .cc of this room is a family.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fovea/attention/attend.h"
#include "fovea/attention/batch.h"
#include "fovea/attention/hooks.h"
#include "fovea/models/support/config.h"
#include "fovea/tensor/weight.h"

namespace fovea::models {

// One row of a family's table: the name in the file, the shape asked for, where it goes.
struct WeightSpec {
  std::string name;
  std::vector<int64_t> dims;  // as in the file: dims[0] varies fastest
  tensor::Weight* target;
  bool optional = false;
};

class Family {
 public:
  virtual ~Family() = default;
  virtual const Config& config() const = 0;
  virtual std::vector<WeightSpec> weights() = 0;
  // -> logits [batch.logit_rows.size(), vocab_size]; an empty tensor if no row is wanted.
  virtual tensor::Tensor forward(const attention::Batch& batch, attention::Attend& attend,
                                 attention::Hooks& hook) const = 0;
};

struct FamilyInfo {
  std::function<std::unique_ptr<Family>(const Config&)> make;
  std::vector<FamilyKey> keys;  // all that it knows
};
inline std::map<std::string, FamilyInfo>& family_registry() {
  static std::map<std::string, FamilyInfo> families;
  return families;
}
inline std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const auto& entry : family_registry()) names.push_back(entry.first);
  return names;
}
// Null if config.architecture is not a family here (read_config refuses those).
inline std::unique_ptr<Family> make_family(const Config& config) {
  const auto it = family_registry().find(config.architecture);
  return it == family_registry().end() ? nullptr : it->second.make(config);
}
// `architecture` as general.architecture spells it; `keys`: see FamilyKey.
#define FOVEA_REGISTER_FAMILY(Type, architecture, keys)                                                             \
  [[maybe_unused]] const bool Type##_registered =                                                                   \
      ::fovea::models::family_registry()                                                                            \
          .emplace(architecture,                                                                                    \
                   ::fovea::models::FamilyInfo{[](const ::fovea::models::Config& config) {                          \
                                                 return std::unique_ptr<::fovea::models::Family>(new Type(config)); \
                                               },                                                                   \
                                               keys})                                                               \
          .second

}  // namespace fovea::models
