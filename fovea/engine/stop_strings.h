// Ends a text before the first of some strings, however they are cut into pieces on the way.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::engine {

class StopStrings {
 public:
  static constexpr size_t kMaxStrings = 16, kMaxBytes = 256;

  explicit StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {}

  // Adds whole characters; returns those that are now sure to stand before any stop string. The first
  // string that is complete wins; after that nothing is returned any more.
  std::string push(std::string_view text);
  std::string finish();  // the text ended: what was held back
  bool found() const { return found_; }

 private:
  size_t sure_bytes() const;  // of held_

  std::vector<std::string> strings_;
  std::string held_;
  bool found_ = false;
};

// kUsage if one is empty or too long, or there are too many (bad-inputs H7).
Status check_stop_strings(const std::vector<std::string>& strings);

}  // namespace fovea::engine
