// The contract of a model family: one table of weights, and a chain of blocks out of ops that forward()
// (support/forward.h) runs. Header only, so that every .cc of this room is a family.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fovea/attention/attend.h"
#include "fovea/attention/batch.h"
#include "fovea/attention/hooks.h"
#include "fovea/base/registry.h"
#include "fovea/models/support/config.h"
#include "fovea/models/support/keys.h"
#include "fovea/tensor/parameter.h"

namespace fovea::models {

class Family {
 public:
  virtual ~Family() = default;
  virtual const Config& config() const = 0;
  virtual std::vector<tensor::Parameter> weights() = 0;
  // The hooks that its chain fires, in their order.
  virtual attention::HookMap hooks() const { return attention::HookMap::decoder(config().shape); }

  // The chain: tokens -> x [n, d_model], through every block, -> logits [batch.logit_rows.size(), vocab_size] (an empty
  // tensor if no row is wanted). Blocks know of one another through x and the cache alone.
  virtual int n_blocks() const { return config().shape.n_layers; }
  virtual tensor::Tensor embed(const attention::Batch& batch, attention::Hooks& hook) const = 0;
  virtual tensor::Tensor block(int index, tensor::Tensor x, attention::Attend& attend,
                               attention::Hooks& hook) const = 0;
  virtual tensor::Tensor unembed(const tensor::Tensor& x, const attention::Batch& batch,
                                 attention::Hooks& hook) const = 0;
  // What vectors of texts are made of, in place of unembed: x behind the last norm, [n, d_model].
  virtual tensor::Tensor final_norm(const tensor::Tensor& x, attention::Hooks& /*hook*/) const { return x; }
  // Whether unembed gives logits. Else it is an encoder: a text is read in one pass, and gives vectors only.
  virtual bool makes_text() const { return true; }
};

// What is the same in all models of a family.
struct FamilyTraits {
  std::string_view models = {};  // "Llama 1 to 3": docs/models.md has these
  std::string_view limits = {};  // what of the family is refused, and why
  tensor::StoredPairing pairing = {};
  tensor::Activation activation = tensor::Activation::kSilu;  // where no key says another
  double window_rope_base = 10000;                            // of layers with a window, where they have their own
  bool yarn_truncates = true;                                 // where no key says: see read_rope
};

struct FamilyInfo {
  std::function<std::unique_ptr<Family>(const Config&)> make;
  std::vector<FamilyKey> keys;  // all that it knows
  // Reads those that a plain decoder does not have (windows, caps, multipliers). Empty: there are none.
  std::function<Status(const Keys& keys, Config& config)> configure = {};
  FamilyTraits traits = {};
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
inline bool register_family(const std::string& architecture, FamilyInfo info) {
  return add_once(family_registry(), "families", architecture, std::move(info));
}
// Type::configure, where the family has one.
template <typename Type>
auto configure_of() {
  std::function<Status(const Keys&, Config&)> configure;
  if constexpr (requires { &Type::configure; }) configure = &Type::configure;
  return configure;
}
// Type::kTraits, likewise.
template <typename Type>
FamilyTraits traits_of() {
  if constexpr (requires { Type::kTraits; }) {
    return Type::kTraits;
  } else {
    return {};
  }
}
// `architecture` as general.architecture spells it; `keys`: see FamilyKey.
#define FOVEA_REGISTER_FAMILY(Type, architecture, keys)                                   \
  [[maybe_unused]] const bool Type##_registered = ::fovea::models::register_family(       \
      architecture, {[](const ::fovea::models::Config& config) {                          \
                       return std::unique_ptr<::fovea::models::Family>(new Type(config)); \
                     },                                                                   \
                     keys, ::fovea::models::configure_of<Type>(), ::fovea::models::traits_of<Type>()})

}  // namespace fovea::models
