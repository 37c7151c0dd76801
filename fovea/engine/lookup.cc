#include "fovea/engine/lookup.h"

#include <algorithm>
#include <bit>

namespace fovea::engine {
namespace {

constexpr size_t kMinSlots = size_t{1} << 10, kMaxSlots = size_t{1} << 18;

// What is known before the first measurement, of two small models on two cores of an AVX-512 Xeon (docs/lookup.md).
// Seconds of a pass, over those of one token: products of up to 8 tokens read the weights as one token does.
double usual_ratio(int n_tokens) { return n_tokens <= 8 ? 1 + 0.1 * (n_tokens - 1) : 1.5 + 0.115 * n_tokens; }
// The share of drafted tokens that come, behind so many that agree.
double usual_share(size_t match) { return static_cast<double>(match) / static_cast<double>(match + 4); }

constexpr double kLeastGain = 1.05;  // a draft that promises less is not worth its surprises

}  // namespace

LookupIndex::LookupIndex(size_t n_tokens) : mask_(std::bit_ceil(std::clamp(n_tokens, kMinSlots, kMaxSlots)) - 1) {
  for (int n = kMinMatch; n <= kMaxMatch; ++n) follows_[static_cast<size_t>(n)].assign(mask_ + 1, 0);
}

size_t LookupIndex::slot(int n, size_t end) const {
  uint64_t hash = static_cast<uint64_t>(n);
  for (size_t i = end - static_cast<size_t>(n); i < end; ++i) {
    hash = (hash ^ static_cast<uint32_t>(tokens_[i])) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
  }
  return hash & mask_;
}

bool LookupIndex::agree(int n, size_t a, size_t b) const {
  return std::equal(tokens_.begin() + static_cast<ptrdiff_t>(a) - n, tokens_.begin() + static_cast<ptrdiff_t>(a),
                    tokens_.begin() + static_cast<ptrdiff_t>(b) - n);
}

void LookupIndex::push(int32_t token) {
  // The tokens before this one are entered only now: they have a successor.
  const size_t end = tokens_.size();
  for (int n = kMinMatch; n <= kMaxMatch && static_cast<size_t>(n) <= end; ++n)
    follows_[static_cast<size_t>(n)][slot(n, end)] = static_cast<int32_t>(end);
  tokens_.push_back(token);
}

void LookupIndex::find(size_t most, Draft& draft) const {
  draft.tokens.clear();
  draft.match = 0;
  const size_t end = tokens_.size();
  for (int n = static_cast<int>(std::min<size_t>(kMaxMatch, end)); n >= kMinMatch; --n) {
    const auto at = static_cast<size_t>(follows_[static_cast<size_t>(n)][slot(n, end)]);
    if (at < static_cast<size_t>(n) || at == 0 || !agree(n, at, end)) continue;  // another text with the same hash
    draft.match = n;
    const auto longest = static_cast<int>(std::min<size_t>(kLongMatch, at));
    while (draft.match < longest && agree(draft.match + 1, at, end)) ++draft.match;
    for (size_t i = 0; i < most; ++i)
      draft.tokens.push_back(at + i < end ? tokens_[at + i] : draft.tokens[at + i - end]);
    return;
  }
}

DraftLength::DraftLength() {
  for (size_t match = 0; match < accepted_.size(); ++match) accepted_[match] = usual_share(match);
  for (size_t n = 0; n < ratio_.size(); ++n) ratio_[n] = usual_ratio(static_cast<int>(n));
}

int DraftLength::choose(int match, int n_found) const {
  double likely = 1, tokens = 1, best = kLeastGain;  // tokens per time of one token
  int length = 0;
  for (int n = 1; n <= std::min(n_found, kMost); ++n) {
    likely *= accepted_[static_cast<size_t>(std::min(match + n - 1, LookupIndex::kLongMatch))];
    tokens += likely;
    const double speed = tokens / ratio_[static_cast<size_t>(n) + 1];
    if (speed > best) best = speed, length = n;
  }
  return length;
}

void DraftLength::learn_pass(int n_tokens, double seconds) {
  if (n_tokens < 1 || n_tokens > kMost + 1) return;
  if (n_tokens == 1) {
    one_ = one_ == 0 ? seconds : one_ + 0.2 * (std::clamp(seconds, 0.5 * one_, 2 * one_) - one_);
    // What was once found slow is tried again some day.
    for (size_t n = 2; n < ratio_.size(); ++n) ratio_[n] += 0.01 * (usual_ratio(static_cast<int>(n)) - ratio_[n]);
    return;
  }
  if (one_ == 0) return;
  // One measurement in a hundred may be the system's doing: none counts for more than twice the estimate.
  double& ratio = ratio_[static_cast<size_t>(n_tokens)];
  const double off = std::clamp(seconds / (one_ * ratio), 0.5, 2.0);
  ratio *= 1 + 0.25 * (off - 1);
  for (size_t n = 2; n < ratio_.size(); ++n) {
    if (n != static_cast<size_t>(n_tokens)) ratio_[n] *= 1 + 0.05 * (off - 1);
  }
}

void DraftLength::learn_token(int match, bool accepted) {
  double& share = accepted_[static_cast<size_t>(std::clamp(match, 0, LookupIndex::kLongMatch))];
  share += 0.1 * ((accepted ? 1.0 : 0.0) - share);
}

}  // namespace fovea::engine
