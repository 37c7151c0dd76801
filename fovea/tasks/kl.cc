#include "fovea/tasks/kl.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "fovea/base/threads.h"
#include "fovea/kernels/vector.h"

namespace fovea::tasks {
namespace {

constexpr size_t kRows = 64;  // that are kept of the reference at a time

// Sorts; linear between the two nearest.
double percentile(std::vector<double>& values, double share) {
  std::sort(values.begin(), values.end());
  const double at = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
}

class Measurement {
 public:
  Measurement(engine::Session& reference, engine::Session& other, const Windows& windows,
              const DivergenceOptions& options)
      : reference_(reference), other_(other), windows_(windows), options_(options) {}

  Status run() {
    for (size_t w = 0; w < windows_.count(); ++w) {
      const engine::SequenceId a = reference_.begin(), b = other_.begin();
      Status done = window(w, a, b);
      reference_.remove(a);
      other_.remove(b);
      if (!done) return done;
    }
    return {};
  }
  std::vector<double> divergences;
  size_t same_top = 0;

 private:
  Status window(size_t w, engine::SequenceId a, engine::SequenceId b) {
    const std::span<const int32_t> tokens = windows_[w];
    engine::PrefillOptions options;
    options.cancel = options_.cancel;
    const auto unscored = tokens.first(windows_.first_scored());
    for (auto [session, sequence] : {std::pair(&reference_, a), std::pair(&other_, b)}) {
      const auto done = session->prefill(sequence, unscored, options);
      if (!done) return done.error();
    }
    const auto scored = tokens.subspan(windows_.first_scored(), windows_.n_scored());
    for (size_t at = 0; at < scored.size(); at += kRows) {
      const auto piece = scored.subspan(at, std::min(kRows, scored.size() - at));
      std::vector<float> rows;
      options.on_logits = [&rows](int64_t, const tensor::Tensor& logits) -> Status {
        rows.insert(rows.end(), logits.values().begin(), logits.values().end());
        return {};
      };
      const auto reference = reference_.prefill(a, piece, options);
      if (!reference) return reference.error();
      options.on_logits = [&](int64_t first, const tensor::Tensor& logits) -> Status {
        compare(rows.data() + first * logits.dim(1), logits);
        return {};
      };
      const auto other = other_.prefill(b, piece, options);
      if (!other) return other.error();
      if (options_.progress) options_.progress(w * windows_.size + windows_.first_scored() + at + piece.size());
    }
    return {};
  }

  void compare(const float* reference, const tensor::Tensor& logits) {
    const int64_t n = logits.dim(0), vocab = logits.dim(1);
    const size_t first = divergences.size();
    divergences.resize(first + static_cast<size_t>(n));
    std::vector<char> same(static_cast<size_t>(n));
    pool().for_each(n, [&](int64_t i, int) {
      const float *p = reference + i * vocab, *q = logits.data() + i * vocab;
      divergences[first + static_cast<size_t>(i)] = kl_divergence(p, q, vocab);
      same[static_cast<size_t>(i)] = kernels::argmax(p, vocab) == kernels::argmax(q, vocab);
    });
    same_top += static_cast<size_t>(std::count(same.begin(), same.end(), 1));
  }

  engine::Session &reference_, &other_;
  const Windows& windows_;
  const DivergenceOptions& options_;
};

}  // namespace

double kl_divergence(const float* reference, const float* other, int64_t n) {
  const double p_norm = kernels::log_sum_exp(reference, n), q_norm = kernels::log_sum_exp(other, n);
  double sum = 0, p_sum = 0, q_sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double log_p = reference[i] - p_norm, log_q = other[i] - q_norm, p = std::exp(log_p);
    sum += p * (log_p - log_q);
    p_sum += p;
    q_sum += std::exp(log_q);
  }
  // The two norms are float sums: take out what they are off by, or it would count as divergence.
  const double p_off = std::log(p_sum), q_off = std::log(q_sum);
  return std::max(0.0, sum / p_sum - p_off + q_off);
}

Result<Divergence> measure_divergence(engine::Session& reference, engine::Session& other, const Windows& windows,
                                      const DivergenceOptions& options) {
  Measurement measurement(reference, other, windows, options);
  FOVEA_RETURN_IF_ERROR(measurement.run());
  std::vector<double>& all = measurement.divergences;
  Divergence out;
  out.n_scored = all.size();
  const auto n = static_cast<double>(all.size());
  for (const double d : all) out.mean += d / n;
  out.p99 = percentile(all, 0.99);
  out.max = all.back();
  out.same_top = static_cast<double>(measurement.same_top) / n;
  return out;
}

}  // namespace fovea::tasks
