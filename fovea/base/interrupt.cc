#include "fovea/base/interrupt.h"

namespace fovea {

std::atomic<bool>& interrupt_flag() {
  static std::atomic<bool> requested{false};
  return requested;
}

}  // namespace fovea
