// The names of hooks: the TransformerLens legacy spelling ("blocks.3.attn.hook_q"), frozen. Other
// tools' names for the same values are understood; docs/hooks.md is the map for users.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/attention/shape.h"
#include "fovea/base/result.h"

namespace fovea::attention {

inline constexpr int kNoLayer = -1;

// In the order in which they fire. Shapes without the batch dimension, n = tokens of this call.
// Every value is float32.
enum class Site : int {
  kEmbed,              // hook_embed                        [n, d_model]
  kResidPre,           // blocks.L.hook_resid_pre           [n, d_model]
  kAttnIn,             // blocks.L.hook_attn_in             [n, d_model] what ln1 reads; resid_pre stays
  kLn1Scale,           // blocks.L.ln1.hook_scale           [n, 1] sqrt(mean(x^2) + eps)
  kLn1Normalized,      // blocks.L.ln1.hook_normalized      [n, d_model] before the norm's weight
  kQInput,             // blocks.L.hook_q_input             [n, n_heads, d_model] attn_in, a copy per head
  kKInput,             // blocks.L.hook_k_input             [n, n_k_heads, d_model]
  kVInput,             // blocks.L.hook_v_input             [n, n_v_heads, d_model]
  kQ,                  // blocks.L.attn.hook_q              [n, n_heads, head_dim] with bias, before rotation
  kK,                  // blocks.L.attn.hook_k              [n, n_k_heads, head_dim] likewise
  kV,                  // blocks.L.attn.hook_v              [n, n_v_heads, head_dim]
  kRotQ,               // blocks.L.attn.hook_rot_q          [n, n_heads, head_dim]
  kRotK,               // blocks.L.attn.hook_rot_k          [n, n_k_heads, head_dim]
  kScores,             // blocks.L.attn.hook_attn_scores    [n_heads, n, n_keys] scaled, -inf where masked
  kPattern,            // blocks.L.attn.hook_pattern        [n_heads, n, n_keys]
  kZ,                  // blocks.L.attn.hook_z              [n, n_heads, head_dim]
  kResult,             // blocks.L.attn.hook_result         [n, n_heads, d_model]
  kAttnOut,            // blocks.L.hook_attn_out            [n, d_model]
  kResidMid,           // blocks.L.hook_resid_mid           [n, d_model]
  kMlpIn,              // blocks.L.hook_mlp_in              [n, d_model] what ln2 reads; resid_mid stays
  kLn2Scale,           // blocks.L.ln2.hook_scale           [n, 1]
  kLn2Normalized,      // blocks.L.ln2.hook_normalized      [n, d_model]
  kMlpPre,             // blocks.L.mlp.hook_pre             [n, d_ff] gate before its activation
  kMlpPreLinear,       // blocks.L.mlp.hook_pre_linear      [n, d_ff] up
  kMlpPost,            // blocks.L.mlp.hook_post            [n, d_ff] silu(pre) * pre_linear
  kMlpOut,             // blocks.L.hook_mlp_out             [n, d_model]
  kResidPost,          // blocks.L.hook_resid_post          [n, d_model]
  kLnFinalScale,       // ln_final.hook_scale           [rows, 1]; rows = tokens whose logits are wanted
  kLnFinalNormalized,  // ln_final.hook_normalized      [rows, d_model]
  kUnembedIn,          // unembed.hook_in               [rows, d_model] after the final norm's weight
  kLogits,             // unembed.hook_out              [rows, vocab_size]
};

struct HookPoint {
  Site site;
  int layer;  // kNoLayer outside the blocks
  bool operator==(const HookPoint&) const = default;
};

bool in_block(Site site);
std::string hook_name(Site site, int layer);                         // layer kNoLayer for sites outside blocks
std::vector<std::string> all_hook_names(int n_layers);               // in the order in which they fire
bool matches_glob(std::string_view pattern, std::string_view name);  // * any run, ? one character

// The shape of a value when a call has n tokens and its rows see n_keys keys.
std::vector<int64_t> hook_shape(Site site, const ModelShape& model, int64_t n, int64_t n_keys);

// Another tool's name for a hook in Fovea's spelling; any other text comes back as it is.
std::string canonical_hook(std::string_view name, int n_layers);

// Every hook that a name, a glob or an alias means, in the order in which they fire. kUsage if there
// is none: with the reason where the name belongs to another kind of model, else the nearest names.
Result<std::vector<HookPoint>> find_hooks(std::string_view pattern, int n_layers);

}  // namespace fovea::attention
