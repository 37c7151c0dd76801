#include "papers/moa/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <set>

#include "fovea/base/random.h"
#include "fovea/kernels/vector.h"
#include "fovea/probe/measures/head_plans.h"

namespace fovea::papers::moa {
namespace {

using engine::Session;
using kernels::Numerics;
using tensor::Tensor;

constexpr float kHidden = -std::numeric_limits<float>::infinity();

std::vector<int32_t> random_tokens(const Run& run, int n) {
  Rng random(run.seed() + 11);
  std::vector<int32_t> out(static_cast<size_t>(n));
  for (int32_t& token : out)
    token = static_cast<int32_t>(random.below(static_cast<uint64_t>(run.model()->shape().vocab_size)));
  return out;
}

Result<std::unique_ptr<Session>> open_exact(Run& run, const std::string& attention) {
  return Session::create(run.model(), {.numerics = Numerics::kExact, .attention = attention});
}

// Logits of every token of a text that is read at once.
Result<std::vector<float>> all_logits(Run& run, Session& session, std::span<const int32_t> tokens) {
  std::vector<float> out;
  engine::PrefillOptions options;
  options.cancel = run.cancel();
  options.on_logits = [&out](int64_t, const Tensor& logits) -> Status {
    out.insert(out.end(), logits.values().begin(), logits.values().end());
    return {};
  };
  const engine::SequenceId sequence = session.begin();
  FOVEA_RETURN_IF_ERROR(session.prefill(sequence, tokens, options));
  session.remove(sequence);
  return out;
}

// The pattern of every row of every head.
class Patterns final : public attention::RowObserver {
 public:
  bool wants(int, int, bool) const override { return true; }
  void see(const attention::RowView& row, std::span<const float> pattern) override {
    const std::lock_guard lock(guard_);
    std::vector<float>& mine = rows_[{row.call.layer, row.head, row.q_pos}];
    mine.assign(static_cast<size_t>(row.q_pos) + 1, 0.0f);
    for (size_t i = 0; i < pattern.size(); ++i) {
      if (row.key_positions[i] >= 0 && row.key_positions[i] <= row.q_pos)
        mine[static_cast<size_t>(row.key_positions[i])] = pattern[i];
    }
  }
  const std::vector<float>& row(int layer, int head, int q_pos) const { return rows_.at({layer, head, q_pos}); }

 private:
  std::map<std::array<int, 3>, std::vector<float>> rows_;
  std::mutex guard_;
};

struct Entry {
  int layer, head, row, key;
  double e, a;
};
struct Entries {
  std::vector<int32_t> tokens;
  std::vector<Entry> all;
  double loss = 0;
};
constexpr size_t kText = 16, kPrompt = 11;  // tokens: a pass for each key that is hidden

Result<Entries> entries(Run& run) {
  Entries out;
  out.tokens = random_tokens(run, kText);
  const int group = run.model()->shape().group();
  std::mutex guard;
  const auto see = [&](int layer, int kv, int64_t row, std::span<const float> e) {
    const std::lock_guard lock(guard);
    for (size_t i = 0; i < e.size(); ++i) {
      const auto n = static_cast<size_t>(row) + 1;
      out.all.push_back({layer, kv * group + static_cast<int>(i / n), static_cast<int>(row), static_cast<int>(i % n),
                         double{e[i]}, 0});
    }
  };
  FOVEA_ASSIGN_OR_RETURN(out.loss, probe::visit_influence(*run.model(), out.tokens, kPrompt, see, run.cancel()));
  FOVEA_ASSIGN_OR_RETURN(const auto session, open_exact(run, "dense"));
  Patterns patterns;
  session->observe(&patterns);
  const engine::SequenceId sequence = session->begin();
  FOVEA_RETURN_IF_ERROR(session->prefill(sequence, out.tokens));
  for (Entry& one : out.all) one.a = double{patterns.row(one.layer, one.head, one.row)[static_cast<size_t>(one.key)]};
  return out;
}

double mean_loss(const std::vector<float>& logits, std::span<const int32_t> tokens) {
  const auto vocab = static_cast<int64_t>(logits.size() / tokens.size());
  double sum = 0;
  for (size_t i = kPrompt; i < tokens.size(); ++i) {
    const float* row = logits.data() + (static_cast<int64_t>(i) - 1) * vocab;
    double whole = 0;
    for (int64_t v = 0; v < vocab; ++v) whole += std::exp(double{row[v]} - double{row[0]});
    sum += std::log(whole) + double{row[0]} - double{row[tokens[i]]};
  }
  return sum / static_cast<double>(tokens.size() - kPrompt);
}

using Costs = std::vector<std::vector<std::vector<double>>>;
using Sizes = std::vector<std::vector<int64_t>>;

// The least cost of all choices that keep within the budgets with two plans a layer, or infinity.
double least_of_all(const Costs& costs, const Sizes& sizes, const std::vector<int64_t>& budgets) {
  size_t n_heads = 0, n_choices = 1;
  for (const auto& layer : costs) n_heads += layer.size();
  for (size_t i = 0; i < n_heads; ++i) n_choices *= sizes.size();
  double best = INFINITY;
  for (size_t choice = 0; choice < n_choices; ++choice) {
    double cost = 0;
    std::vector<int64_t> taken(budgets.size(), 0);
    bool fits = true;
    size_t rest = choice;
    for (const auto& layer : costs) {
      std::set<size_t> different;
      for (const auto& head : layer) {
        const size_t plan = rest % sizes.size();
        rest /= sizes.size();
        different.insert(plan);
        cost += head[plan];
        for (size_t b = 0; b < taken.size(); ++b) taken[b] += sizes[plan][b];
      }
      fits = fits && different.size() <= 2;
    }
    for (size_t b = 0; b < taken.size(); ++b) fits = fits && taken[b] <= budgets[b];
    if (fits) best = std::min(best, cost);
  }
  return best;
}

}  // namespace

Result<double> naive_mask_apart(Run& run) {
  constexpr int kN = 152, kBlock = 8, kSpan = 64;  // floor((-8 + 0.5 * 152) / 8) blocks
  const std::vector<int32_t> tokens = random_tokens(run, kN);
  FOVEA_ASSIGN_OR_RETURN(const auto method, open_exact(run, "moa:alpha=-8:beta=0.5:block=8"));
  FOVEA_ASSIGN_OR_RETURN(const std::vector<float> mine, all_logits(run, *method, tokens));
  FOVEA_ASSIGN_OR_RETURN(const auto dense, open_exact(run, "dense"));
  FOVEA_ASSIGN_OR_RETURN(
      const auto scope,
      dense->hooks().scoped("blocks.*.attn.hook_attn_scores", [&](const std::string&, Tensor& scores) {
        for (int64_t head = 0; head < scores.dim(0); ++head) {
          for (int64_t i = 0; i < scores.dim(1); ++i) {
            float* row = scores.data() + (head * scores.dim(1) + i) * scores.dim(2);
            for (int64_t j = kBlock; j <= i - (kSpan - kBlock); ++j) row[j] = kHidden;
          }
        }
      }));
  FOVEA_ASSIGN_OR_RETURN(const std::vector<float> naive, all_logits(run, *dense, tokens));
  double worst = 0;
  for (size_t i = 0; i < naive.size(); ++i) worst = std::max(worst, std::abs(double{mine[i]} - double{naive[i]}));
  return worst;
}

Result<Scatter> influence_by(Run& run, By by, double least, double most, int n) {
  FOVEA_ASSIGN_OR_RETURN(Entries found, entries(run));
  std::vector<Entry>& all = found.all;
  std::erase_if(all, [=](const Entry& one) { return one.row == 0 || one.a < least || one.a >= most; });
  std::sort(all.begin(), all.end(), [](const Entry& x, const Entry& y) { return std::abs(x.e) > std::abs(y.e); });
  FOVEA_ASSIGN_OR_RETURN(const auto session, open_exact(run, "dense"));
  const Entry* at = nullptr;
  float change = 0;  // of its score
  int layer = 0;     // that fires next
  FOVEA_ASSIGN_OR_RETURN(
      const auto scope,
      session->hooks().scoped("blocks.*.attn.hook_attn_scores", [&](const std::string&, Tensor& scores) {
        if (at && layer++ == at->layer)
          scores.data()[(at->head * scores.dim(1) + at->row) * scores.dim(2) + at->key] += change;
      }));
  const auto loss_with = [&](float more) -> Result<double> {
    change = more, layer = 0;
    FOVEA_ASSIGN_OR_RETURN(const std::vector<float> logits, all_logits(run, *session, found.tokens));
    return mean_loss(logits, found.tokens);
  };
  FOVEA_ASSIGN_OR_RETURN(const double plain, loss_with(0));
  Scatter out;
  double xy = 0, xx = 0, yy = 0;
  constexpr size_t kMost = 300;  // evenly from so many that matter most
  constexpr float kStep = 0.2f;
  const size_t each = kMost / static_cast<size_t>(n);
  Series series{fmt::format("weights of {} to {}", least, most), {}};
  for (size_t i = 0; i < std::min(all.size(), kMost); i += each, ++out.n) {
    run.progress("changing scores of keys", static_cast<int64_t>(i), kMost);
    at = &all[i];
    FOVEA_ASSIGN_OR_RETURN(const double below, loss_with(by == By::kHiding ? kHidden : -kStep));
    double y = below - plain;
    if (by == By::kSmallSteps) {  // dLoss / dscore = -(1 - A) E
      FOVEA_ASSIGN_OR_RETURN(const double above, loss_with(kStep));
      y = (below - above) / (2 * double{kStep}) / (1 - at->a);
    }
    series.points.emplace_back(at->e, y);
    xy += at->e * y, xx += at->e * at->e, yy += y * y;
  }
  run.plot({by == By::kHiding ? "Loss where a key is hidden" : "Loss by small steps of a score",
            "influence, to first order",
            "nats",
            {series}});
  out.correlation = xy / std::sqrt(xx * yy), out.slope = xy / xx;
  return out;
}

Result<double> row_identity(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Entries found, entries(run));
  std::map<std::array<int, 3>, double> sums;
  double largest = 0, worst = 0;
  for (const Entry& one : found.all) {
    if (one.row == 0) continue;
    sums[{one.layer, one.head, one.row}] += (1 - one.a) * one.e;
    largest = std::max(largest, std::abs(one.e));
  }
  for (const auto& [row, sum] : sums) worst = std::max(worst, std::abs(sum));
  return worst / largest;
}

Solved against_brute_force(uint64_t seed) {
  Rng random(seed + 5);
  Solved out;
  for (; out.n < 40; ++out.n) {
    Costs costs(2, std::vector<std::vector<double>>(2, std::vector<double>(5)));
    Sizes sizes(5, std::vector<int64_t>(2));
    for (auto& layer : costs) {
      for (auto& head : layer) {
        for (double& cost : head) cost = random.uniform();
      }
    }
    for (auto& plan : sizes) {
      for (int64_t& size : plan) size = static_cast<int64_t>(1 + random.below(8));
    }
    const std::vector<int64_t> budgets = {static_cast<int64_t>(8 + random.below(12)),
                                          static_cast<int64_t>(8 + random.below(12))};
    const double best = least_of_all(costs, sizes, budgets);
    const auto found = probe::choose_head_plans(costs, sizes, budgets);
    out.fit += std::isfinite(best);
    out.equal += found ? std::abs(found->cost - best) < 1e-12 : !std::isfinite(best);
  }
  return out;
}

}  // namespace fovea::papers::moa
