// Numbers of tokens as constants; private to the products.
#pragma once

#include "fovea/kernels/matmul_lanes.h"

namespace fovea::kernels::FOVEA_ISA_NS {
namespace {

template <int T>
struct Count {
  static constexpr int value = T;
};

// fn(Count<n>()), n in 1..T: the number of tokens becomes a constant.
template <int T, typename Fn>
void with_tokens(int n, const Fn& fn) {
  if constexpr (T > 0) {
    if (n == T) {
      fn(Count<T>());
    } else {
      with_tokens<T - 1>(n, fn);
    }
  }
}

// Tokens of one pass over a panel. A sanitizer build takes minutes for each size, so it has few.
#ifdef FOVEA_FEW_TILES
constexpr int kTileTokens = kMostTokens < 2 ? kMostTokens : 2;
#else
constexpr int kTileTokens = kMostTokens;
#endif

}  // namespace
}  // namespace fovea::kernels::FOVEA_ISA_NS
