#include "apps/cli/quality.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/cli/answer.h"
#include "apps/cli/windows.h"
#include "fovea/base/text_file.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/vector.h"

namespace fovea::cli {
namespace {

constexpr size_t kRows = 64;  // that are kept of the exact session at a time

// KL(p || q) of two rows of logits, summed in double precision.
double divergence(const float* exact, const float* fast, int64_t n) {
  const double p_norm = kernels::log_sum_exp(exact, n), q_norm = kernels::log_sum_exp(fast, n);
  double sum = 0, p_sum = 0, q_sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double log_p = exact[i] - p_norm, log_q = fast[i] - q_norm, p = std::exp(log_p);
    sum += p * (log_p - log_q);
    p_sum += p;
    q_sum += std::exp(log_q);
  }
  // The two norms are float sums: take out what they are off by, or it would count as divergence.
  const double p_off = std::log(p_sum), q_off = std::log(q_sum);
  return std::max(0.0, sum / p_sum - p_off + q_off);
}

// Sorts; linear between the two nearest.
double percentile(std::vector<double>& values, double share) {
  std::sort(values.begin(), values.end());
  const double at = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
}

class Quality {
 public:
  Quality(engine::Session& exact, engine::Session& fast, const Windows& windows, const Common& common)
      : exact_(exact),
        fast_(fast),
        windows_(windows),
        bar_("comparing", windows.tokens.size(), "tokens", 1.0, common.quiet) {}

  Status run() {
    for (size_t w = 0; w < windows_.count(); ++w) FOVEA_RETURN_IF_ERROR(window(w));
    return {};
  }
  std::vector<double> divergences;
  size_t same_top = 0;

 private:
  // Both sessions go through the window side by side, so that few rows are kept.
  Status window(size_t w) {
    const std::span<const int32_t> tokens = windows_[w];
    const engine::SequenceId a = exact_.begin(), b = fast_.begin();
    engine::PrefillOptions options;
    options.cancel = &Interrupt::flag();
    const auto unscored = tokens.first(windows_.first_scored());
    for (auto [session, sequence] : {std::pair(&exact_, a), std::pair(&fast_, b)}) {
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
      const auto exact = exact_.prefill(a, piece, options);
      if (!exact) return exact.error();
      options.on_logits = [&](int64_t first, const tensor::Tensor& logits) -> Status {
        return compare(rows.data() + first * logits.dim(1), logits);
      };
      const auto fast = fast_.prefill(b, piece, options);
      if (!fast) return fast.error();
      bar_.update(w * windows_.size + windows_.first_scored() + at + piece.size());
    }
    exact_.remove(a);
    fast_.remove(b);
    return {};
  }

  Status compare(const float* exact, const tensor::Tensor& logits) {
    const int64_t n = logits.dim(0), vocab = logits.dim(1);
    const size_t first = divergences.size();
    divergences.resize(first + static_cast<size_t>(n));
    std::vector<char> same(static_cast<size_t>(n));
    pool().for_each(n, [&](int64_t i, int) {
      const float *p = exact + i * vocab, *q = logits.data() + i * vocab;
      divergences[first + static_cast<size_t>(i)] = divergence(p, q, vocab);
      same[static_cast<size_t>(i)] = kernels::argmax(p, vocab) == kernels::argmax(q, vocab);
    });
    same_top += static_cast<size_t>(std::count(same.begin(), same.end(), 1));
    return {};
  }

  engine::Session &exact_, &fast_;
  const Windows& windows_;
  Progress bar_;
};

}  // namespace

Status measure_quality(const Common& common, ModelFlags flags, const std::string& file, int max_windows) {
  if (flags.n_ctx == 0) flags.n_ctx = 512;
  if (flags.n_ctx < 4)
    return make_error(ErrorCode::kUsage, "--ctx-size: {} is too short a window; 4 or more tokens are needed",
                      flags.n_ctx);
  FOVEA_ASSIGN_OR_RETURN(const std::string text, read_text_file(file));
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, flags));
  FOVEA_ASSIGN_OR_RETURN(const Windows windows, cut_windows(text, *model, flags.n_ctx, max_windows));
  FOVEA_ASSIGN_OR_RETURN(engine::SessionOptions options, session_options(*model, common, flags));
  const auto cache_type = std::exchange(options.cache_type, std::nullopt);  // of the one compared alone
  options.numerics = kernels::Numerics::kExact;
  FOVEA_ASSIGN_OR_RETURN(const auto exact, engine::Session::create(model, options));
  options.numerics = kernels::Numerics::kFast;
  options.cache_type = cache_type;
  FOVEA_ASSIGN_OR_RETURN(const auto fast, engine::Session::create(model, options));

  Quality quality(*exact, *fast, windows, common);
  FOVEA_RETURN_IF_ERROR(quality.run());
  std::vector<double>& all = quality.divergences;
  const auto n = static_cast<double>(all.size());
  double mean = 0;
  for (const double d : all) mean += d / n;
  const double p99 = percentile(all, 0.99), agreement = static_cast<double>(quality.same_top) / n;
  if (common.json) {
    nlohmann::json out = setting_json(*fast);
    FOVEA_ASSIGN_OR_RETURN(out["model_sha256"], model->sha256());
    out.update({{"mean_kl", mean},
                {"p99_kl", p99},
                {"max_kl", all.back()},
                {"top1_agreement", agreement},
                {"n_scored_tokens", all.size()},
                {"n_windows", windows.count()}});
    return print_json(out);
  }
  return print(
      fmt::format("fast against exact, {} tokens scored in {} windows of {}\nmean KL         {:.6f}\n99 % KL         "
                  "{:.6f}\nlargest KL      {:.6f}\n"
                  "same top token  {:.2f} %\n",
                  all.size(), windows.count(), windows.size, mean, p99, all.back(), agreement * 100));
}

}  // namespace fovea::cli
