// Hooks: read or replace a named value of the forward pass. Names are the TransformerLens legacy
// spelling ("blocks.3.attn.hook_q"); a pattern may hold * and ?. A pattern that matches no site of
// the model, or a hook that never fires, is an error: a silent no-op gives wrong findings.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tensor/tensor.h"

namespace fovea::attention {

inline constexpr int kNoLayer = -1;

// Shapes without the batch dimension, n = tokens of this call.
enum class Site : int {
  kEmbed,          // hook_embed                        [n, d_model]
  kResidPre,       // blocks.L.hook_resid_pre           [n, d_model]
  kLn1Scale,       // blocks.L.ln1.hook_scale           [n, 1]
  kLn1Normalized,  // blocks.L.ln1.hook_normalized      [n, d_model] before the norm's weight
  kQ,              // blocks.L.attn.hook_q              [n, n_heads, head_dim] before rotation
  kK,              // blocks.L.attn.hook_k              [n, n_kv_heads, head_dim] before rotation
  kV,              // blocks.L.attn.hook_v              [n, n_kv_heads, head_dim]
  kRotQ,           // blocks.L.attn.hook_rot_q          [n, n_heads, head_dim]
  kRotK,           // blocks.L.attn.hook_rot_k          [n, n_kv_heads, head_dim]
  kScores,         // blocks.L.attn.hook_attn_scores    [n_heads, n, n_keys] scaled, -inf where masked
  kPattern,        // blocks.L.attn.hook_pattern        [n_heads, n, n_keys]
  kZ,              // blocks.L.attn.hook_z              [n, n_heads, head_dim]
  kResult,         // blocks.L.attn.hook_result         [n, n_heads, d_model]
  kAttnOut,        // blocks.L.hook_attn_out            [n, d_model]
  kResidMid,       // blocks.L.hook_resid_mid           [n, d_model]
  kLn2Scale,       // blocks.L.ln2.hook_scale           [n, 1]
  kLn2Normalized,  // blocks.L.ln2.hook_normalized      [n, d_model]
  kMlpPre,         // blocks.L.mlp.hook_pre             [n, d_ff] gate before its activation
  kMlpPreLinear,   // blocks.L.mlp.hook_pre_linear      [n, d_ff] up
  kMlpPost,        // blocks.L.mlp.hook_post            [n, d_ff]
  kMlpOut,         // blocks.L.hook_mlp_out             [n, d_model]
  kResidPost,      // blocks.L.hook_resid_post          [n, d_model]
  kLnFinalScale,       // ln_final.hook_scale           [n, 1]
  kLnFinalNormalized,  // ln_final.hook_normalized      [n, d_model]
  kLogits,             // unembed.hook_out              [n, vocab_size]
};

std::string hook_name(Site site, int layer);           // layer kNoLayer for sites outside blocks
std::vector<std::string> all_hook_names(int n_layers);  // in the order in which they fire
bool matches_glob(std::string_view pattern, std::string_view name);  // * any run, ? one character

class Hooks {
 public:
  // Reads `value`; may replace it by another tensor of the same shape.
  using Function = std::function<void(const std::string& name, tensor::Tensor& value)>;

  explicit Hooks(int n_layers) : n_layers_(n_layers) {}

  // kUsage with the nearest names if the pattern matches no hook of this model.
  Status attach(const std::string& pattern, Function function);
  void clear() { entries_.clear(); }

  bool active() const { return !entries_.empty(); }
  bool wants(Site site, int layer) const;  // so that a value is built only where somebody looks
  // Called by the forward pass; gives x back, or what a hook put in its place.
  tensor::Tensor operator()(Site site, int layer, tensor::Tensor x);
  // After a run: kUsage naming the first pattern of which nothing fired.
  Status check_fired() const;

 private:
  struct Entry {
    std::string pattern;
    std::vector<bool> sites;  // by index(site, layer)
    Function function;
    bool fired = false;
  };
  size_t index(Site site, int layer) const;

  int n_layers_;
  std::vector<Entry> entries_;
};

}  // namespace fovea::attention
