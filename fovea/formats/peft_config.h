// adapter_config.json of PEFT: how strongly each pair of a LoRA counts.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::formats {

class PeftConfig {
 public:
  // kUnsupported names the field that asks for something else than a plain LoRA, kData one that is wrong.
  static Result<PeftConfig> read(const nlohmann::ordered_json& json, const std::string& name);

  // What b a is multiplied with; kData if the rank is not the one that the file says for this module.
  Result<double> scale_of(std::string_view module, int64_t rank) const;

 private:
  // By the name of a module, or by its end; "^" in front: the whole name. The first that fits counts, as in PEFT.
  using Pattern = std::vector<std::pair<std::string, double>>;
  static Result<Pattern> read_pattern(const nlohmann::ordered_json& json, const char* field, const std::string& name);
  static double value_of(const Pattern& pattern, std::string_view module, double otherwise);

  std::string name_;
  double rank_ = 0, alpha_ = 0;
  bool by_root_ = false;  // alpha / sqrt(rank): Kalajdzievski, arXiv:2312.03732
  Pattern ranks_, alphas_;
};

}  // namespace fovea::formats
