#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "fovea/engine/generate.h"

namespace fovea::engine {
namespace {

constexpr size_t kMaxBiases = 1024;

// NaN is in no range.
bool in(double value, double min, double max) { return value >= min && value <= max; }

Status check_range(const char* option, double value, double min, double max) {
  if (in(value, min, max)) return {};
  return make_error(ErrorCode::kUsage, "{} is {}; it must be in {} to {}", option, value, min, max);
}

}  // namespace

Status check_sampling(const SamplingOptions& options, int vocab_size) {
  constexpr double kMaxInt = std::numeric_limits<int>::max();
  FOVEA_RETURN_IF_ERROR(check_range("temperature", options.temperature, 0, 100));
  FOVEA_RETURN_IF_ERROR(check_range("top_k", options.top_k, 0, kMaxInt));
  FOVEA_RETURN_IF_ERROR(check_range("top_p", options.top_p, 0, 1));
  FOVEA_RETURN_IF_ERROR(check_range("min_p", options.min_p, 0, 1));
  FOVEA_RETURN_IF_ERROR(check_range("repeat_penalty", options.repeat_penalty, 0.01, 100));
  FOVEA_RETURN_IF_ERROR(check_range("presence_penalty", options.presence_penalty, -2, 2));
  FOVEA_RETURN_IF_ERROR(check_range("frequency_penalty", options.frequency_penalty, -2, 2));
  FOVEA_RETURN_IF_ERROR(check_range("repeat_last_n", options.repeat_last_n, -1, kMaxInt));
  if (options.logit_bias.size() > kMaxBiases) {
    return make_error(ErrorCode::kUsage, "logit_bias has {} entries; at most {} are allowed", options.logit_bias.size(),
                      kMaxBiases);
  }
  for (const auto& [id, bias] : options.logit_bias) {
    if (id < 0 || id >= vocab_size) {
      return make_error(ErrorCode::kUsage, "logit_bias names token {}; the vocabulary has ids 0 to {}", id,
                        vocab_size - 1);
    }
    if (bias != -std::numeric_limits<float>::infinity() && !in(bias, -1e6, 1e6)) {
      return make_error(ErrorCode::kUsage, "logit_bias of token {} is {}; it must be in -1e6 to 1e6, or -inf", id,
                        bias);
    }
  }
  return {};
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}

std::span<const float> Sampler::adjusted(std::span<const float> logits, std::span<const int32_t> history) {
  const bool any =
      options_.repeat_penalty != 1.0f || options_.presence_penalty != 0.0f || options_.frequency_penalty != 0.0f;
  const bool penalise = any && options_.repeat_last_n != 0 && !history.empty();
  if (options_.logit_bias.empty() && !penalise) return logits;
  adjusted_.assign(logits.begin(), logits.end());
  for (const auto& [id, bias] : options_.logit_bias) {
    if (static_cast<size_t>(id) < adjusted_.size()) adjusted_[static_cast<size_t>(id)] += bias;
  }
  if (!penalise) return adjusted_;
  if (options_.repeat_last_n > 0)
    history = history.last(std::min(history.size(), static_cast<size_t>(options_.repeat_last_n)));
  recent_.assign(history.begin(), history.end());
  std::sort(recent_.begin(), recent_.end());
  for (auto first = recent_.begin(); first != recent_.end();) {
    const auto next = std::upper_bound(first, recent_.end(), *first);
    const auto id = static_cast<size_t>(*first);
    const auto count = static_cast<float>(next - first);
    first = next;
    if (id >= adjusted_.size()) continue;
    float& logit = adjusted_[id];
    logit = logit > 0 ? logit / options_.repeat_penalty : logit * options_.repeat_penalty;  // once, whatever the count
    logit -= count * options_.frequency_penalty + options_.presence_penalty;
  }
  return adjusted_;
}

int32_t Sampler::sample(std::span<const float> raw, std::span<const int32_t> history) {
  const std::span<const float> logits = adjusted(raw, history);
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  int32_t best = -1;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > (best < 0 ? kNever : logits[static_cast<size_t>(best)]))
      best = static_cast<int32_t>(i);  // NaN never
  }
  if (best < 0) return 0;  // every token is banned or not a number
  if (options_.temperature == 0.0f) return best;

  // Each filter keeps the first so many of the tokens in order of their logits, so the filters may
  // be applied in any order as long as top-p counts the weight that top-k left.
  const float max = logits[static_cast<size_t>(best)];
  const auto weight = [max](float logit) { return logit == max ? 1.0f : std::exp(logit - max); };
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  };
  candidates_.clear();
  const auto k = options_.top_k == 0 ? logits.size() : std::min(logits.size(), static_cast<size_t>(options_.top_k));
  for (size_t i = 0; i < logits.size(); ++i) {
    const Candidate c{logits[i], static_cast<int32_t>(i)};
    if (!(c.logit > kNever)) continue;
    if (candidates_.size() < k) {
      candidates_.push_back(c);
      if (candidates_.size() == k && k < logits.size()) std::make_heap(candidates_.begin(), candidates_.end(), better);
    } else if (better(c, candidates_.front())) {  // of a heap of the best k: the worst
      std::pop_heap(candidates_.begin(), candidates_.end(), better);
      candidates_.back() = c;
      std::push_heap(candidates_.begin(), candidates_.end(), better);
    }
  }
  double total = 0;
  if (options_.top_p < 1.0f) {
    for (const Candidate& c : candidates_) total += weight(c.logit);
  }
  if (options_.min_p > 0.0f) {
    const auto too_small = [&](const Candidate& c) { return weight(c.logit) < options_.min_p; };
    candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(), too_small), candidates_.end());
  }
  std::sort(candidates_.begin(), candidates_.end(), better);
  if (options_.top_p < 1.0f) {
    double sum = 0;
    size_t n = 0;
    while (n < candidates_.size() && (n == 0 || sum < options_.top_p * total)) sum += weight(candidates_[n++].logit);
    candidates_.resize(n);
  }

  total = 0;
  const auto heated = [&](const Candidate& c) {
    return c.logit == max ? 1.0 : std::exp((double{c.logit} - max) / options_.temperature);
  };
  for (const Candidate& c : candidates_) total += heated(c);
  double left = random_.uniform() * total;
  for (const Candidate& c : candidates_) {
    left -= heated(c);
    if (left < 0) return c.id;
  }
  return candidates_.front().id;  // rounding took the last bit
}

}  // namespace fovea::engine
