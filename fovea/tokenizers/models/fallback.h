// What becomes of characters without a token: the tokens of their bytes, or the unknown token, or nothing.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "fovea/tokenizers/models/model.h"

namespace fovea::tokenizers {

struct Fallback {
  std::array<int32_t, 256> bytes;  // all -1: no fallback to bytes
  int32_t unknown = -1;            // -1: none
  bool fuse = false;               // neighbours share one unknown token

  Fallback() { bytes.fill(-1); }
  bool has_bytes(std::string_view text) const {
    for (const char c : text) {
      if (bytes[static_cast<unsigned char>(c)] < 0) return false;
    }
    return true;
  }
};

}  // namespace fovea::tokenizers
