#include "fovea/attention/hooks.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/check.h"
#include "fovea/base/nearest.h"

namespace fovea::attention {
namespace {

constexpr int kSites = static_cast<int>(Site::kLogits) + 1;

bool in_block(Site site) { return site >= Site::kResidPre && site <= Site::kResidPost; }

std::string_view suffix(Site site) {
  switch (site) {
    case Site::kEmbed: return "hook_embed";
    case Site::kResidPre: return "hook_resid_pre";
    case Site::kLn1Scale: return "ln1.hook_scale";
    case Site::kLn1Normalized: return "ln1.hook_normalized";
    case Site::kQ: return "attn.hook_q";
    case Site::kK: return "attn.hook_k";
    case Site::kV: return "attn.hook_v";
    case Site::kRotQ: return "attn.hook_rot_q";
    case Site::kRotK: return "attn.hook_rot_k";
    case Site::kScores: return "attn.hook_attn_scores";
    case Site::kPattern: return "attn.hook_pattern";
    case Site::kZ: return "attn.hook_z";
    case Site::kResult: return "attn.hook_result";
    case Site::kAttnOut: return "hook_attn_out";
    case Site::kResidMid: return "hook_resid_mid";
    case Site::kLn2Scale: return "ln2.hook_scale";
    case Site::kLn2Normalized: return "ln2.hook_normalized";
    case Site::kMlpPre: return "mlp.hook_pre";
    case Site::kMlpPreLinear: return "mlp.hook_pre_linear";
    case Site::kMlpPost: return "mlp.hook_post";
    case Site::kMlpOut: return "hook_mlp_out";
    case Site::kResidPost: return "hook_resid_post";
    case Site::kLnFinalScale: return "ln_final.hook_scale";
    case Site::kLnFinalNormalized: return "ln_final.hook_normalized";
    case Site::kLogits: return "unembed.hook_out";
  }
  return "";
}

}  // namespace

std::string hook_name(Site site, int layer) {
  if (!in_block(site)) return std::string(suffix(site));
  return fmt::format("blocks.{}.{}", layer, suffix(site));
}

std::vector<std::string> all_hook_names(int n_layers) {
  std::vector<std::string> names = {hook_name(Site::kEmbed, kNoLayer)};
  for (int layer = 0; layer < n_layers; ++layer) {
    for (int s = 0; s < kSites; ++s) {
      if (in_block(static_cast<Site>(s))) names.push_back(hook_name(static_cast<Site>(s), layer));
    }
  }
  for (Site site : {Site::kLnFinalScale, Site::kLnFinalNormalized, Site::kLogits}) {
    names.push_back(hook_name(site, kNoLayer));
  }
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

size_t Hooks::index(Site site, int layer) const {
  FOVEA_CHECK(in_block(site) ? layer >= 0 && layer < n_layers_ : layer == kNoLayer,
              "hooks: {} has no layer {} in a model of {} layers", suffix(site), layer, n_layers_);
  return static_cast<size_t>(layer + 1) * kSites + static_cast<size_t>(site);
}

Status Hooks::attach(const std::string& pattern, Function function) {
  Entry entry{pattern, std::vector<bool>(static_cast<size_t>(n_layers_ + 1) * kSites), std::move(function)};
  bool any = false;
  for (int layer = kNoLayer; layer < n_layers_; ++layer) {
    for (int s = 0; s < kSites; ++s) {
      const Site site = static_cast<Site>(s);
      if (in_block(site) != (layer != kNoLayer) || !matches_glob(pattern, hook_name(site, layer))) continue;
      entry.sites[index(site, layer)] = true;
      any = true;
    }
  }
  if (!any) {
    return make_error(ErrorCode::kUsage, "hook {} matches nothing in this model of {} layers; nearest: {}",
                      fovea::quoted(pattern), n_layers_, fmt::join(nearest_names(std::string_view(pattern).substr(0, 200), all_hook_names(n_layers_)), ", "));
  }
  entries_.push_back(std::move(entry));
  return {};
}

bool Hooks::wants(Site site, int layer) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [i = index(site, layer)](const Entry& entry) { return entry.sites[i]; });
}

tensor::Tensor Hooks::operator()(Site site, int layer, tensor::Tensor x) {
  if (entries_.empty()) return x;
  const size_t i = index(site, layer);
  for (Entry& entry : entries_) {
    if (!entry.sites[i]) continue;
    const std::string name = hook_name(site, layer);
    const tensor::Shape shape = x.shape();
    entry.function(name, x);
    FOVEA_CHECK(x.defined() && x.shape() == shape, "hook {}: replaced by shape {}, wanted {}", name,
                x.defined() ? x.shape().to_string() : "[]", shape.to_string());
    entry.fired = true;
  }
  return x;
}

Status Hooks::check_fired() const {
  for (const Entry& entry : entries_) {
    if (!entry.fired) {
      return make_error(ErrorCode::kUsage, "hook {} never fired in this run: the path taken does not compute it",
                        fovea::quoted(entry.pattern));
    }
  }
  return {};
}

}  // namespace fovea::attention
