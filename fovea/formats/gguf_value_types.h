// The value types of GGUF's keys by their numbers in the file.
#pragma once

#include <cstdint>

namespace fovea::formats::gguf_value {

enum Type : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64, kTypes };

}  // namespace fovea::formats::gguf_value
