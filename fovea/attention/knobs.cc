#include "fovea/attention/knobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "fovea/attention/method.h"
#include "fovea/base/bytes.h"
#include "fovea/base/nearest.h"

namespace fovea::attention {
namespace {

class Lister final : public KnobVisitor {
 public:
  std::vector<KnobInfo> knobs;
  void add(std::string_view name, int& value, const KnobLimits& limits) override {
    push(KnobInfo::Kind::kWhole, name, fmt::format("{}", value), limits);
  }
  void add(std::string_view name, double& value, const KnobLimits& limits) override {
    push(KnobInfo::Kind::kReal, name, fmt::format("{}", value), limits);
  }
  void add(std::string_view name, bool& value, const KnobLimits& limits) override {
    push(KnobInfo::Kind::kSwitch, name, value ? "true" : "false", limits);
  }
  void add(std::string_view name, HeadSet& value, const KnobLimits& limits) override {
    push(KnobInfo::Kind::kHeads, name, value.to_string(), limits);
  }
  void add(std::string_view name, int& value, const std::vector<std::string_view>& choices,
           const KnobLimits& limits) override {
    push(KnobInfo::Kind::kChoice, name, std::string(choices[static_cast<size_t>(value)]), limits);
    knobs.back().choices.assign(choices.begin(), choices.end());
  }

 private:
  void push(KnobInfo::Kind kind, std::string_view name, std::string value, const KnobLimits& limits) {
    knobs.push_back({kind, std::string(name), std::move(value), std::string(limits.help), limits.min, limits.max, {}});
  }
};

class Setter final : public KnobVisitor {
 public:
  Setter(std::string_view method, std::string_view name, std::string_view text)
      : method_(method), name_(name), text_(text) {}

  Status finish() {
    if (error_.message.empty() && !found_) {
      error_ = names_.empty() ? make_error(ErrorCode::kUsage, "{} has no knob {}; it has none", method_, quote(name_))
                              : make_error(ErrorCode::kUsage, "{} has no knob {}; nearest: {} (all: {})", method_,
                                           quote(name_), nearest_names(name_, names_, 1)[0], fmt::join(names_, ", "));
    }
    if (!error_.message.empty()) return error_;
    return {};
  }
  void add(std::string_view name, int& value, const KnobLimits& limits) override {
    if (!mine(name)) return;
    double number = 0;
    if (!parse(number, limits)) return;
    if (number != std::floor(number) || std::abs(number) > kMost) {
      fail(fmt::format("a whole number in {} to {}", std::max(limits.min, -kMost), std::min(limits.max, kMost)));
    } else {
      value = static_cast<int>(number);
    }
  }
  void add(std::string_view name, double& value, const KnobLimits& limits) override {
    double number = 0;
    if (mine(name) && parse(number, limits)) value = number;
  }
  void add(std::string_view name, bool& value, const KnobLimits&) override {
    if (!mine(name)) return;
    if (text_ == "true" || text_ == "1" || text_ == "on") {
      value = true;
    } else if (text_ == "false" || text_ == "0" || text_ == "off") {
      value = false;
    } else {
      fail("true or false");
    }
  }
  void add(std::string_view name, HeadSet& value, const KnobLimits&) override {
    if (!mine(name)) return;
    Result<HeadSet> parsed = HeadSet::parse(text_);
    if (!parsed) {
      error_ = make_error(ErrorCode::kUsage, "{}: knob {}: {}", method_, name_, parsed.error().message);
    } else {
      value = *parsed;
    }
  }
  void add(std::string_view name, int& value, const std::vector<std::string_view>& choices,
           const KnobLimits&) override {
    if (!mine(name)) return;
    for (size_t i = 0; i < choices.size(); ++i) {
      if (choices[i] == text_) {
        value = static_cast<int>(i);
        return;
      }
    }
    fail(fmt::format("one of {}", fmt::join(choices, ", ")));
  }

 private:
  bool mine(std::string_view name) {
    names_.emplace_back(name);
    const bool same = name == name_;
    found_ = found_ || same;
    return same;
  }
  static constexpr double kMost = std::numeric_limits<int>::max();
  void fail(std::string_view wanted) {
    error_ = make_error(ErrorCode::kUsage, "{}: knob {} must be {}, not {}", method_, name_, wanted, quote(text_));
  }
  bool parse(double& number, const KnobLimits& limits) {
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), number);
    if (error != std::errc() || end != text_.data() + text_.size() || !std::isfinite(number)) {
      fail("a number");
      return false;
    }
    if (number < limits.min || number > limits.max) {
      fail(std::isinf(limits.max)   ? fmt::format("at least {}", limits.min)
           : std::isinf(limits.min) ? fmt::format("at most {}", limits.max)
                                    : fmt::format("between {} and {}", limits.min, limits.max));
      return false;
    }
    return true;
  }

  std::string_view method_, name_, text_;
  bool found_ = false;
  Error error_;
  std::vector<std::string> names_;
};

}  // namespace

std::vector<KnobInfo> list_knobs(Method& method) {
  Lister lister;
  method.visit_knobs(lister);
  return lister.knobs;
}

Status set_knob(Method& method, std::string_view name, std::string_view value) {
  Setter setter(method.info().name, name, value);
  method.visit_knobs(setter);
  return setter.finish();
}

}  // namespace fovea::attention
