// Which hooks a model has, what they are called and how large they are: a family lists the sites that its blocks
// fire, by default those of a decoder. The names of sites are frozen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/attention/shape.h"

namespace fovea::attention {

inline constexpr int kNoLayer = -1;

// In the order in which a pre-norm block fires them. Shapes without the batch dimension, n = tokens of this call.
// Every value is float32. B is the block's name: "blocks.3", in a tower "vision.blocks.3".
enum class Site : int {
  kEmbed,              // hook_embed                  [n, d_model]
  kPosEmbed,           // hook_pos_embed              [n, d_model] where positions are an embedding
  kResidPre,           // B.hook_resid_pre            [n, d_model]
  kAttnIn,             // B.hook_attn_in              [n, d_model] what ln1 reads; resid_pre stays
  kLn1Scale,           // B.ln1.hook_scale            [n, 1] sqrt(mean(x^2) + eps)
  kLn1Normalized,      // B.ln1.hook_normalized       [n, d_model] before the norm's weight
  kQInput,             // B.hook_q_input              [n, n_heads, d_model] attn_in, a copy per head
  kKInput,             // B.hook_k_input              [n, n_k_heads, d_model]
  kVInput,             // B.hook_v_input              [n, n_v_heads, d_model]
  kQ,                  // B.attn.hook_q               [n, n_heads, k_dim] with bias and norm, before rotation
  kK,                  // B.attn.hook_k               [n, n_k_heads, k_dim] likewise
  kV,                  // B.attn.hook_v               [n, n_v_heads, v_dim]
  kRotQ,               // B.attn.hook_rot_q           [n, n_heads, k_dim]
  kRotK,               // B.attn.hook_rot_k           [n, n_k_heads, k_dim]
  kScores,             // B.attn.hook_attn_scores     [n_heads, n, n_keys] scaled, capped, -inf where masked
  kPattern,            // B.attn.hook_pattern         [n_heads, n, n_keys]
  kZ,                  // B.attn.hook_z               [n, n_heads, v_dim]
  kResult,             // B.attn.hook_result          [n, n_heads, d_model]
  kLn1PostScale,       // B.ln1_post.hook_scale       [n, 1] of a norm behind attention
  kLn1PostNormalized,  // B.ln1_post.hook_normalized  [n, d_model]
  kAttnOut,            // B.hook_attn_out             [n, d_model] as it is added
  kResidMid,           // B.hook_resid_mid            [n, d_model]
  kCrossAttnIn,        // B.hook_cross_attn_in        [n, d_model] what the norm before cross-attention reads
  kCrossAttnOut,       // B.hook_cross_attn_out       [n, d_model] as it is added
  kResidMidCross,      // B.hook_resid_mid_cross      [n, d_model]
  kMlpIn,              // B.hook_mlp_in               [n, d_model] what ln2 reads; resid_mid stays
  kLn2Scale,           // B.ln2.hook_scale            [n, 1]
  kLn2Normalized,      // B.ln2.hook_normalized       [n, d_model]
  kMlpGate,            // B.mlp.hook_gate             [n, n_experts] the router's logits
  kExpertWeights,      // B.mlp.hook_expert_weights   [n, n_experts] their softmax, of which the largest are taken
  kExpertIndices,      // B.mlp.hook_expert_indices   [n, n_used] the experts taken, the largest weight first
  kMlpPre,             // B.mlp.hook_pre              [n, d_ff] before the activation: the gate's, where there is one
  kMlpPreLinear,       // B.mlp.hook_pre_linear       [n, d_ff] up, beside a gate
  kMlpPost,            // B.mlp.hook_post             [n, d_ff] act(pre), times pre_linear
  kLn2PostScale,       // B.ln2_post.hook_scale       [n, 1] of a norm behind the MLP
  kLn2PostNormalized,  // B.ln2_post.hook_normalized  [n, d_model]
  kMlpOut,             // B.hook_mlp_out              [n, d_model] as it is added
  kResidPost,          // B.hook_resid_post           [n, d_model]
  kLnFinalScale,       // ln_final.hook_scale         [rows, 1]; rows = tokens whose logits are wanted
  kLnFinalNormalized,  // ln_final.hook_normalized    [rows, d_model]
  kUnembedIn,          // unembed.hook_in             [rows, d_model] after the final norm's weight
  kLogits,             // unembed.hook_out            [rows, vocab_size]
};
inline constexpr int kSites = static_cast<int>(Site::kLogits) + 1;
// A site of one family alone, by a number of its choice.
constexpr Site own_site(int number) { return static_cast<Site>(kSites + number); }

bool in_block(Site site);            // of the frozen ones
std::string_view suffix(Site site);  // of the frozen ones: "attn.hook_q", after the block's name and a dot

struct HookPoint {
  Site site;
  int layer;  // kNoLayer outside the blocks
  bool operator==(const HookPoint&) const = default;
};

// A layer of attention (as ModelShape counts them) and what is around it.
struct HookBlock {
  int layer;
  std::string name;                // "blocks.3"
  std::string attention = "attn";  // "cross_attn" of a block's second layer: "blocks.3.cross_attn.hook_q"
  int d_model = 0, d_ff = 0;       // 0: the model's
  int n_experts = 0, n_used = 0;   // of a mixture
};

class HookMap {
 public:
  static constexpr int64_t kTokens = -1, kKeys = -2;  // in shapes: those of the call
  struct Hook {
    HookPoint point;
    std::string name;
    std::vector<int64_t> shape;
  };

  explicit HookMap(const ModelShape& model) : model_(model) {}
  // Blocks "blocks.0", ... of a layer each, all with these sites, and what is outside of a decoder's blocks.
  static HookMap decoder(const ModelShape& model, std::span<const Site> sites = decoder_sites());
  static std::span<const Site> decoder_sites();  // of a block

  // In the order in which they fire.
  void add(Site site);                                                    // outside the blocks
  void add(const HookBlock& block, std::span<const Site> sites);          // of a block
  void add_own(Site site, std::string name, std::vector<int64_t> shape);  // of own_site(), outside the blocks
  void add_own(const HookBlock& block, Site site, std::string_view name, std::vector<int64_t> shape);

  const std::vector<Hook>& hooks() const { return hooks_; }
  std::vector<std::string> names() const;
  int n_layers() const { return model_.n_layers; }
  int n_blocks() const;                                               // of those called "blocks.N"
  const std::vector<std::string>& blocks() const { return blocks_; }  // names, each once
  int index(Site site, int layer) const;                              // into hooks(); -1: the model does not have it
  const std::string& name(const HookPoint& point) const;              // it must have it
  // The shape of a value when a call has n tokens and its rows see n_keys keys.
  std::vector<int64_t> shape(const HookPoint& point, int64_t n, int64_t n_keys) const;

 private:
  void put(HookPoint point, std::string name, std::vector<int64_t> shape);

  ModelShape model_;
  std::vector<Hook> hooks_;
  std::vector<std::string> blocks_;
  std::vector<std::vector<int>> places_;  // [layer + 1][site] -> index
};

}  // namespace fovea::attention
