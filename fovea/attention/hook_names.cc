#include "fovea/attention/hook_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <optional>
#include <span>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/nearest.h"

namespace fovea::attention {
namespace {

enum class Dim { kNone, kTokens, kKeys, kOne, kHeads, kKeyHeads, kValueHeads, kHeadDim, kModel, kMlp, kVocab };

struct SiteRow {
  Site site;
  std::string_view suffix;
  std::array<Dim, 3> dims;
};

using enum Dim;
constexpr SiteRow kTable[] = {
    {Site::kEmbed, "hook_embed", {kTokens, kModel}},
    {Site::kResidPre, "hook_resid_pre", {kTokens, kModel}},
    {Site::kAttnIn, "hook_attn_in", {kTokens, kModel}},
    {Site::kLn1Scale, "ln1.hook_scale", {kTokens, kOne}},
    {Site::kLn1Normalized, "ln1.hook_normalized", {kTokens, kModel}},
    {Site::kQInput, "hook_q_input", {kTokens, kHeads, kModel}},
    {Site::kKInput, "hook_k_input", {kTokens, kKeyHeads, kModel}},
    {Site::kVInput, "hook_v_input", {kTokens, kValueHeads, kModel}},
    {Site::kQ, "attn.hook_q", {kTokens, kHeads, kHeadDim}},
    {Site::kK, "attn.hook_k", {kTokens, kKeyHeads, kHeadDim}},
    {Site::kV, "attn.hook_v", {kTokens, kValueHeads, kHeadDim}},
    {Site::kRotQ, "attn.hook_rot_q", {kTokens, kHeads, kHeadDim}},
    {Site::kRotK, "attn.hook_rot_k", {kTokens, kKeyHeads, kHeadDim}},
    {Site::kScores, "attn.hook_attn_scores", {kHeads, kTokens, kKeys}},
    {Site::kPattern, "attn.hook_pattern", {kHeads, kTokens, kKeys}},
    {Site::kZ, "attn.hook_z", {kTokens, kHeads, kHeadDim}},
    {Site::kResult, "attn.hook_result", {kTokens, kHeads, kModel}},
    {Site::kAttnOut, "hook_attn_out", {kTokens, kModel}},
    {Site::kResidMid, "hook_resid_mid", {kTokens, kModel}},
    {Site::kMlpIn, "hook_mlp_in", {kTokens, kModel}},
    {Site::kLn2Scale, "ln2.hook_scale", {kTokens, kOne}},
    {Site::kLn2Normalized, "ln2.hook_normalized", {kTokens, kModel}},
    {Site::kMlpPre, "mlp.hook_pre", {kTokens, kMlp}},
    {Site::kMlpPreLinear, "mlp.hook_pre_linear", {kTokens, kMlp}},
    {Site::kMlpPost, "mlp.hook_post", {kTokens, kMlp}},
    {Site::kMlpOut, "hook_mlp_out", {kTokens, kModel}},
    {Site::kResidPost, "hook_resid_post", {kTokens, kModel}},
    {Site::kLnFinalScale, "ln_final.hook_scale", {kTokens, kOne}},
    {Site::kLnFinalNormalized, "ln_final.hook_normalized", {kTokens, kModel}},
    {Site::kUnembedIn, "unembed.hook_in", {kTokens, kModel}},
    {Site::kLogits, "unembed.hook_out", {kTokens, kVocab}},
};
static_assert(std::size(kTable) == static_cast<size_t>(Site::kLogits) + 1);

const SiteRow& row(Site site) { return kTable[static_cast<size_t>(site)]; }

// Another name for a site. {text in a name of `blocks.L.`, `blk.L.` or before `[L]`, the site}
using Alias = std::pair<std::string_view, Site>;
// TransformerLens 3 "bridge" names.
constexpr Alias kBridge[] = {
    {"hook_in", Site::kResidPre},        {"hook_out", Site::kResidPost},       {"ln1.hook_in", Site::kAttnIn},
    {"ln2.hook_in", Site::kMlpIn},       {"attn.q.hook_out", Site::kQ},        {"attn.k.hook_out", Site::kK},
    {"attn.v.hook_out", Site::kV},       {"attn.o.hook_in", Site::kZ},         {"attn.o.hook_out", Site::kAttnOut},
    {"attn.hook_out", Site::kAttnOut},   {"mlp.gate.hook_out", Site::kMlpPre}, {"mlp.in.hook_out", Site::kMlpPreLinear},
    {"mlp.out.hook_in", Site::kMlpPost}, {"mlp.out.hook_out", Site::kMlpOut},  {"mlp.hook_out", Site::kMlpOut},
};
constexpr Alias kGguf[] = {
    {"attn_q", Site::kQ},        {"attn_k", Site::kK},
    {"attn_v", Site::kV},        {"attn_output", Site::kAttnOut},
    {"ffn_gate", Site::kMlpPre}, {"ffn_up", Site::kMlpPreLinear},
    {"ffn_down", Site::kMlpOut},
};
constexpr Alias kNnterp[] = {
    {"layers_input", Site::kResidPre},           {"layers_output", Site::kResidPost},
    {"attentions_output", Site::kAttnOut},       {"mlps_output", Site::kMlpOut},
    {"attention_probabilities", Site::kPattern},
};
constexpr Alias kOutside[] = {
    {"embed.hook_out", Site::kEmbed},
    {"embed", Site::kEmbed},
    {"token_embd", Site::kEmbed},
    {"token_embeddings", Site::kEmbed},
    {"ln_final.hook_out", Site::kUnembedIn},
    {"output_norm", Site::kUnembedIn},
    {"output", Site::kLogits},
    {"logits", Site::kLogits},
};
// Shorthands ("q5", "pattern3"): the words that are not simply "hook_" less.
constexpr Alias kShort[] = {
    {"attn", Site::kPattern}, {"attn_logits", Site::kScores}, {"query", Site::kQ},          {"key", Site::kK},
    {"value", Site::kV},      {"mlp_pre", Site::kMlpPre},     {"mlp_post", Site::kMlpPost},
};

std::optional<Site> look_up(std::span<const Alias> table, std::string_view text) {
  for (const Alias& alias : table) {
    if (alias.first == text) return alias.second;
  }
  return std::nullopt;
}

// Names of other kinds of model, and why these have none of it.
struct Elsewhere {
  std::string_view name;  // {} stands for a layer
  std::string_view reason;
};
constexpr std::string_view kNoPostNorm =
    "the blocks of this model have no norm after attention or the MLP (Gemma 2 and 3 do)";
constexpr std::string_view kNoExperts = "the MLP of this model is dense: there is no router and there are no experts";
constexpr std::string_view kNoCross = "this model has no encoder, so no cross-attention";
constexpr std::string_view kNoLinear = "every layer of this model is softmax attention; hybrid models have linear_attn";
constexpr std::string_view kNoVision = "this model reads text only";
constexpr Elsewhere kElsewhere[] = {
    {"hook_pos_embed", "positions enter by rotating q and k (see attn.hook_rot_q), not by an embedding"},
    {"blocks.{}.ln1_post.hook_scale", kNoPostNorm},
    {"blocks.{}.ln1_post.hook_normalized", kNoPostNorm},
    {"blocks.{}.ln2_post.hook_scale", kNoPostNorm},
    {"blocks.{}.ln2_post.hook_normalized", kNoPostNorm},
    {"blocks.{}.mlp.hook_gate", kNoExperts},
    {"blocks.{}.mlp.hook_expert_weights", kNoExperts},
    {"blocks.{}.mlp.hook_expert_indices", kNoExperts},
    {"blocks.{}.hook_cross_attn_in", kNoCross},
    {"blocks.{}.hook_cross_attn_out", kNoCross},
    {"blocks.{}.hook_resid_mid_cross", kNoCross},
    {"blocks.{}.linear_attn.hook_q_pre_conv", kNoLinear},
    {"blocks.{}.linear_attn.hook_k_pre_conv", kNoLinear},
    {"blocks.{}.linear_attn.hook_v_pre_conv", kNoLinear},
    {"blocks.{}.linear_attn.hook_beta", kNoLinear},
    {"blocks.{}.linear_attn.hook_log_decay", kNoLinear},
    {"blocks.{}.linear_attn.hook_recurrence_out", kNoLinear},
    {"blocks.{}.linear_attn.hook_out", kNoLinear},
    {"projector.hook_out", kNoVision},
};

std::optional<std::string_view> why_absent(std::string_view pattern, int n_layers) {
  if (pattern.starts_with("vision.")) return kNoVision;
  if (pattern.starts_with("unet.")) return "this model is no diffusion network";
  if (pattern.find(".hook_sae_") != std::string_view::npos) return "no sparse autoencoder is attached to that site";
  for (const Elsewhere& entry : kElsewhere) {
    if (entry.name.find("{}") == std::string_view::npos) {
      if (matches_glob(pattern, entry.name)) return entry.reason;
      continue;
    }
    for (int layer = 0; layer < n_layers; ++layer) {
      if (matches_glob(pattern, fmt::format(fmt::runtime(entry.name), layer))) return entry.reason;
    }
  }
  return std::nullopt;
}

bool is_layer(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return std::isdigit(static_cast<unsigned char>(c)) || c == '*' || c == '?';
  });
}

std::string in_layer(Site site, std::string_view layer) { return fmt::format("blocks.{}.{}", layer, row(site).suffix); }

// "q5", "resid_post11", "pattern*", "scale4ln1", "scale" (of the last norm).
std::optional<std::string> short_hand(std::string_view name) {
  const size_t digit = std::min(name.find_first_of("0123456789*"), name.size());
  const std::string_view word = name.substr(0, digit);
  const size_t after = std::min(name.find_first_not_of("0123456789*", digit), name.size());
  const std::string_view layer = name.substr(digit, after - digit), part = name.substr(after);
  if (word == "scale" || word == "normalized") {
    if (layer.empty()) return fmt::format("ln_final.hook_{}", word);
    if (part == "ln1" || part == "ln2") return fmt::format("blocks.{}.{}.hook_{}", layer, part, word);
    return std::nullopt;
  }
  if (layer.empty() || !(part.empty() || part == "attn" || part == "mlp" || part == "a" || part == "m"))
    return std::nullopt;
  if (const auto site = look_up(kShort, word)) return in_layer(*site, layer);
  for (const SiteRow& r : kTable) {
    if (!in_block(r.site) || r.suffix.starts_with("ln")) continue;
    if (r.suffix.substr(r.suffix.find("hook_") + 5) == word) return in_layer(r.site, layer);
  }
  return std::nullopt;
}

}  // namespace

bool in_block(Site site) { return site >= Site::kResidPre && site <= Site::kResidPost; }

std::string hook_name(Site site, int layer) {
  if (!in_block(site)) return std::string(row(site).suffix);
  return fmt::format("blocks.{}.{}", layer, row(site).suffix);
}

std::vector<std::string> all_hook_names(int n_layers) {
  std::vector<std::string> names;
  const auto every = find_hooks("*", n_layers);
  for (const HookPoint& point : every.value()) names.push_back(hook_name(point.site, point.layer));
  return names;
}

bool matches_glob(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0, star = std::string_view::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::vector<int64_t> hook_shape(Site site, const ModelShape& model, int64_t n, int64_t n_keys) {
  std::vector<int64_t> shape;
  for (const Dim dim : row(site).dims) {
    switch (dim) {
      case kNone: break;
      case kTokens: shape.push_back(n); break;
      case kKeys: shape.push_back(n_keys); break;
      case kOne: shape.push_back(1); break;
      case kHeads: shape.push_back(model.n_heads); break;
      case kKeyHeads: shape.push_back(model.site(0).n_k_heads); break;
      case kValueHeads: shape.push_back(model.site(0).n_v_heads); break;
      case kHeadDim: shape.push_back(model.head_dim); break;
      case kModel: shape.push_back(model.d_model); break;
      case kMlp: shape.push_back(model.d_ff); break;
      case kVocab: shape.push_back(model.vocab_size); break;
    }
  }
  return shape;
}

std::string canonical_hook(std::string_view name, int n_layers) {
  if (const auto site = look_up(kOutside, name)) return hook_name(*site, kNoLayer);
  if (name.ends_with("]")) {
    const size_t bracket = name.find('[');
    const auto site = look_up(kNnterp, name.substr(0, bracket));
    if (!site) return std::string(name);
    const std::string_view index = name.substr(bracket + 1, name.size() - bracket - 2);
    if (is_layer(index)) return in_layer(*site, index);
    int layer = 0;  // negative ones count from the end
    const auto [end, error] = std::from_chars(index.data(), index.data() + index.size(), layer);
    if (error != std::errc() || end != index.data() + index.size() || layer < -n_layers) return std::string(name);
    return in_layer(*site, std::to_string(n_layers + layer));
  }
  using Table = std::pair<std::string_view, std::span<const Alias>>;
  for (const auto& [prefix, table] : {Table{"blocks.", kBridge}, Table{"blk.", kGguf}}) {
    const size_t dot = name.find('.', prefix.size());
    if (!name.starts_with(prefix) || dot == std::string_view::npos) continue;
    const std::string_view layer = name.substr(prefix.size(), dot - prefix.size());
    const auto site = look_up(table, name.substr(dot + 1));
    if (site && is_layer(layer)) return in_layer(*site, layer);
  }
  return short_hand(name).value_or(std::string(name));
}

Result<std::vector<HookPoint>> find_hooks(std::string_view pattern, int n_layers) {
  const std::string name = canonical_hook(pattern, n_layers);
  std::vector<HookPoint> points;
  const auto try_site = [&](Site site, int layer) {
    if (matches_glob(name, hook_name(site, layer))) points.push_back({site, layer});
  };
  try_site(Site::kEmbed, kNoLayer);
  for (int layer = 0; layer < n_layers; ++layer) {
    for (const SiteRow& r : kTable) {
      if (in_block(r.site)) try_site(r.site, layer);
    }
  }
  for (const SiteRow& r : kTable) {
    if (!in_block(r.site) && r.site != Site::kEmbed) try_site(r.site, kNoLayer);
  }
  if (!points.empty()) return points;

  const std::string shown = fovea::quoted(std::string(pattern));
  if (const auto reason = why_absent(name, n_layers)) {
    return make_error(ErrorCode::kUsage, "hook {}: {}", shown, *reason);
  }
  // A layer that is not there, of a name that is.
  const size_t dot = name.find('.', 7);
  if (name.starts_with("blocks.") && dot != std::string::npos) {
    const std::string layer = name.substr(7, dot - 7), rest = name.substr(dot + 1);
    const bool known = std::any_of(std::begin(kTable), std::end(kTable),
                                   [&](const SiteRow& r) { return in_block(r.site) && matches_glob(rest, r.suffix); });
    if (known) {
      return make_error(ErrorCode::kUsage, "hook {}: there is no layer {} in this model of {} layers (0 to {})", shown,
                        fovea::quoted(layer), n_layers, n_layers - 1);
    }
  }
  const auto nearest = nearest_names(std::string_view(name).substr(0, 200), all_hook_names(n_layers));
  return make_error(ErrorCode::kUsage, "hook {} matches nothing in this model of {} layers; nearest: {}", shown,
                    n_layers, fmt::join(nearest, ", "));
}

}  // namespace fovea::attention
