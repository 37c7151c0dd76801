#include "fovea/attention/hook_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <span>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/nearest.h"

namespace fovea::attention {
namespace {

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
  std::string_view name;  // {} stands for the name of a block
  std::string_view reason;
};
constexpr std::string_view kNoPostNorm =
    "the blocks of this model have no norm after attention or the MLP (Gemma 2 and 3 do)";
constexpr std::string_view kNoExperts = "the MLP of this model is dense: there is no router and there are no experts";
constexpr std::string_view kNoCross = "this model has no encoder, so no cross-attention";
constexpr std::string_view kNoLinear = "every layer of this model is softmax attention; hybrid models have linear_attn";
constexpr std::string_view kNoGate = "the MLP of this model has no gate";
constexpr std::string_view kNoTurn = "this model does not turn q and k: positions enter by an embedding";
constexpr std::string_view kNoVocabulary = "this model ends in vectors, not in a vocabulary";
constexpr Elsewhere kElsewhere[] = {
    {"hook_pos_embed", "positions enter by rotating q and k (see attn.hook_rot_q), not by an embedding"},
    {"{}.ln1_post.hook_scale", kNoPostNorm},
    {"{}.ln1_post.hook_normalized", kNoPostNorm},
    {"{}.ln2_post.hook_scale", kNoPostNorm},
    {"{}.ln2_post.hook_normalized", kNoPostNorm},
    {"{}.mlp.hook_gate", kNoExperts},
    {"{}.mlp.hook_expert_weights", kNoExperts},
    {"{}.mlp.hook_expert_indices", kNoExperts},
    {"{}.mlp.hook_pre_linear", kNoGate},
    {"{}.attn.hook_rot_q", kNoTurn},
    {"{}.attn.hook_rot_k", kNoTurn},
    {"{}.hook_cross_attn_in", kNoCross},
    {"{}.hook_cross_attn_out", kNoCross},
    {"{}.hook_resid_mid_cross", kNoCross},
    {"{}.linear_attn.hook_q_pre_conv", kNoLinear},
    {"{}.linear_attn.hook_k_pre_conv", kNoLinear},
    {"{}.linear_attn.hook_v_pre_conv", kNoLinear},
    {"{}.linear_attn.hook_beta", kNoLinear},
    {"{}.linear_attn.hook_log_decay", kNoLinear},
    {"{}.linear_attn.hook_recurrence_out", kNoLinear},
    {"{}.linear_attn.hook_out", kNoLinear},
    {"ln_final.hook_scale", kNoVocabulary},
    {"ln_final.hook_normalized", kNoVocabulary},
    {"unembed.hook_in", kNoVocabulary},
    {"unembed.hook_out", kNoVocabulary},
};
// Towers of other models: reasons for every name that begins so.
constexpr Elsewhere kTowers[] = {
    {"vision.", "this model reads text only"},
    {"projector.", "this model reads text only"},
    {"encoder.", kNoCross},
    {"unet.", "this model is no diffusion network"},
};

std::optional<std::string_view> why_absent(std::string_view pattern, const HookMap& model) {
  for (const Elsewhere& tower : kTowers) {
    const auto in_it = [&](const HookMap::Hook& hook) { return hook.name.starts_with(tower.name); };
    if (pattern.starts_with(tower.name) && std::none_of(model.hooks().begin(), model.hooks().end(), in_it))
      return tower.reason;
  }
  if (pattern.find(".hook_sae_") != std::string_view::npos) return "no sparse autoencoder is attached to that site";
  const auto crosses = [](const HookMap::Hook& hook) { return hook.name.find(".cross_attn.") != std::string::npos; };
  if (pattern.find(".cross_attn.") != std::string_view::npos &&
      std::none_of(model.hooks().begin(), model.hooks().end(), crosses))
    return kNoCross;
  for (const Elsewhere& entry : kElsewhere) {
    if (!entry.name.starts_with("{}")) {
      if (matches_glob(pattern, entry.name)) return entry.reason;
      continue;
    }
    for (const std::string& block : model.blocks()) {
      if (matches_glob(pattern, block + std::string(entry.name.substr(2)))) return entry.reason;
    }
  }
  const bool frozen = std::any_of(model.blocks().begin(), model.blocks().end(), [&](const std::string& block) {
    for (int site = 0; site < kSites; ++site) {
      if (matches_glob(pattern, fmt::format("{}.{}", block, suffix(static_cast<Site>(site))))) return true;
    }
    return false;
  });
  if (frozen) return "the blocks of this model make no such value";
  return std::nullopt;
}

bool is_layer(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return std::isdigit(static_cast<unsigned char>(c)) || c == '*' || c == '?';
  });
}

std::string in_layer(Site site, std::string_view layer) { return fmt::format("blocks.{}.{}", layer, suffix(site)); }

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
  for (int i = 0; i < kSites; ++i) {
    const auto site = static_cast<Site>(i);
    if (!in_block(site) || suffix(site).starts_with("ln")) continue;
    if (suffix(site).substr(suffix(site).find("hook_") + 5) == word) return in_layer(site, layer);
  }
  return std::nullopt;
}

}  // namespace

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

std::string canonical_hook(std::string_view name, int n_blocks) {
  if (const auto site = look_up(kOutside, name)) return std::string(suffix(*site));
  if (name.ends_with("]")) {
    const size_t bracket = name.find('[');
    const auto site = look_up(kNnterp, name.substr(0, bracket));
    if (!site) return std::string(name);
    const std::string_view index = name.substr(bracket + 1, name.size() - bracket - 2);
    if (is_layer(index)) return in_layer(*site, index);
    int layer = 0;  // negative ones count from the end
    const auto [end, error] = std::from_chars(index.data(), index.data() + index.size(), layer);
    if (error != std::errc() || end != index.data() + index.size() || layer < -n_blocks) return std::string(name);
    return in_layer(*site, std::to_string(n_blocks + layer));
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

Result<std::vector<HookPoint>> find_hooks(std::string_view pattern, const HookMap& model) {
  const int n_blocks = model.n_blocks();
  const std::string name = canonical_hook(pattern, n_blocks);
  std::vector<HookPoint> points;
  for (const HookMap::Hook& hook : model.hooks()) {
    if (matches_glob(name, hook.name)) points.push_back(hook.point);
  }
  if (!points.empty()) return points;

  const std::string shown = quote(std::string(pattern));
  if (const auto reason = why_absent(name, model)) {
    return make_error(ErrorCode::kUsage, "hook {}: {}", shown, *reason);
  }
  // A layer that is not there, of a name that is.
  const size_t dot = name.find('.', 7);
  if (name.starts_with("blocks.") && dot != std::string::npos) {
    const std::string layer = name.substr(7, dot - 7), rest = name.substr(dot + 1);
    const bool known = std::any_of(model.hooks().begin(), model.hooks().end(), [&](const HookMap::Hook& hook) {
      return hook.name.starts_with("blocks.") && matches_glob(rest, hook.name.substr(hook.name.find('.', 7) + 1));
    });
    if (known) {
      return make_error(ErrorCode::kUsage, "hook {}: there is no layer {} in this model of {} layers (0 to {})", shown,
                        quote(layer), n_blocks, n_blocks - 1);
    }
  }
  const auto nearest = nearest_names(std::string_view(name).substr(0, 200), model.names());
  return make_error(ErrorCode::kUsage, "hook {} matches nothing in this model of {} layers; nearest: {}", shown,
                    n_blocks, fmt::join(nearest, ", "));
}

}  // namespace fovea::attention
