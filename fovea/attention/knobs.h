// Knobs: what a user may set on a method. Declared once, in Method::visit_knobs; flags, help,
// catalogue and range errors all come from there.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/attention/shape.h"
#include "fovea/base/result.h"

namespace fovea::attention {

struct KnobLimits {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  std::string_view help;
};

class KnobVisitor {
 public:
  virtual ~KnobVisitor() = default;
  virtual void add(std::string_view name, int& value, const KnobLimits& limits) = 0;
  virtual void add(std::string_view name, double& value, const KnobLimits& limits) = 0;
  virtual void add(std::string_view name, bool& value, const KnobLimits& limits) = 0;
  virtual void add(std::string_view name, HeadSet& value, const KnobLimits& limits) = 0;
  // One of `choices`, by index.
  virtual void add(std::string_view name, int& value, const std::vector<std::string_view>& choices,
                   const KnobLimits& limits) = 0;
};

// One knob as shown in the catalogue, with the value that it has now.
struct KnobInfo {
  enum class Kind { kWhole, kReal, kSwitch, kHeads, kChoice };
  Kind kind;
  std::string name, value, help;
  double min, max;                   // infinite where there is no limit; numbers only
  std::vector<std::string> choices;  // of a kChoice
};

class Method;
std::vector<KnobInfo> list_knobs(Method& method);
// kUsage naming the knob: unknown (with the nearest), malformed, out of range.
Status set_knob(Method& method, std::string_view name, std::string_view value);

}  // namespace fovea::attention
