// Whether a packed form (kernels/matmul.h) is one of those that types without a kernel of their own take: without loss,
// but wider than the file has them.
#pragma once

#include <cstdint>

namespace fovea::kernels {

constexpr bool is_widened(uint64_t file_bytes, uint64_t packed_bytes) {
  return packed_bytes > file_bytes + file_bytes / 4;
}

}  // namespace fovea::kernels
