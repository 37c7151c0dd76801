// Tables of angles from metadata: base, partial rotation, and every scaling that runs. One that is not known is
// refused.
#pragma once

#include <climits>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "fovea/models/support/keys.h"
#include "fovea/tensor/ops/attention/rope.h"

namespace fovea::models {

// Tensors with a divisor for each pair's angle: Llama 3's, and LongRoPE's of long and short contexts.
inline constexpr std::string_view kRopeFactors = "rope_freqs.weight", kLongFactors = "rope_factors_long.weight",
                                  kShortFactors = "rope_factors_short.weight";
std::span<const std::string_view> rope_tensors();

// Where the keys of a table stand: those of layers with a window are others in some families.
struct RopeKeys {
  std::string_view base = "rope.freq_base", scaling = "rope.scaling.";
  bool tensors = true;    // of divisors count for it
  bool truncates = true;  // yarn, without a key: its edges are whole numbers of pairs
};
inline constexpr RopeKeys kWindowRopeKeys = {"rope.freq_base_swa", "rope.scaling_swa.", /*tensors=*/false};

struct RopeTables {
  tensor::RopeTable table;
  // LongRoPE: for contexts of more than `short_context` tokens. Which of both a text is read with is settled before it
  // begins, so that its length changes no key that was cached.
  std::optional<tensor::RopeTable> beyond = {};
  int short_context = INT_MAX;
};
// Of `turned` elements of a head (even); `n_ctx` is what the model was trained for, `base` where the key is missing.
//   none                       theta_i = base^(-2 i / turned)
//   linear                     theta_i / factor
//   dynamic                    theta_i: a larger base is for texts longer than n_ctx, which are refused
//   llama3                     theta_i / factor for long waves, theta_i for short ones, between them a mixture
//   yarn                       Peng et al., arXiv:2309.00071
//   longrope (also called su)  theta_i / factors[i]; Ding et al., arXiv:2402.13753
Result<RopeTables> read_rope(const Keys& keys, tensor::RopePairing pairing, int64_t turned, int64_t n_ctx,
                             const RopeKeys& at = {}, double base = 10000);

// Llama 3's scaling as the divisors of kRopeFactors: GGUF's way to say it, and what the angles are divided by here.
Result<std::vector<float>> llama3_divisors(const Keys& keys, int64_t turned);

}  // namespace fovea::models
