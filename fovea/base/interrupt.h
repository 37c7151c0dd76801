// The wish to stop: a signal handler sets it, long work polls it, and what base waits for (a FIFO, a pipe, a slow
// standard input) ends with kCancelled once it is set.
#pragma once

#include <atomic>

#include "fovea/base/result.h"

namespace fovea {

std::atomic<bool>& interrupt_flag();
inline bool interrupted() { return interrupt_flag().load(std::memory_order_relaxed); }
inline Error interrupted_error() { return Error{ErrorCode::kCancelled, "interrupted", {}}; }

}  // namespace fovea
