#include "fovea/probe/measures/moa_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "fovea/base/random.h"
#include "fovea/engine/session.h"
#include "fovea/kernels/vector.h"
#include "fovea/probe/measures/column.h"
#include "fovea/probe/measures/head_plans.h"
#include "fovea/tasks/needle.h"

namespace fovea::probe {
namespace {

FOVEA_PROFILE_COLUMN(moa_alpha, kKvHead, "keys of a span in the plan of MoA, besides its share of the text");
FOVEA_PROFILE_COLUMN(moa_beta, kKvHead, "share of the text in a span of that plan");
FOVEA_PROFILE_COLUMN(moa_block, kModel, "keys of a block in that plan");

constexpr int kEighths = 8;
constexpr int kMostAnswer = 24;  // tokens

// A prompt with the dense model's own answer behind it.
struct AnsweredPrompt {
  std::vector<int32_t> tokens;
  size_t n_prompt = 0;
};

std::unique_ptr<engine::Session> session_of(const std::shared_ptr<const engine::Model>& model,
                                            const MoaOptions& options, const std::string& attention,
                                            std::shared_ptr<const attention::HeadProfile> profile, Status& status) {
  auto made = engine::Session::create(
      model, {.numerics = options.numerics, .attention = attention, .profile = std::move(profile)});
  if (!made) status = made.error();
  return made ? std::move(*made) : nullptr;
}

// Answers greedily; no answer where the text ends at once.
Result<AnsweredPrompt> answered(engine::Session& session, const tokenizers::Tokenizer& tokenizer,
                                const std::vector<int32_t>& prompt, const std::atomic<bool>* cancel) {
  AnsweredPrompt out{prompt, prompt.size()};
  const engine::SequenceId sequence = session.begin();
  auto logits = session.prefill(sequence, prompt, {.progress = nullptr, .cancel = cancel, .on_logits = nullptr});
  for (int i = 0; logits && i < kMostAnswer; ++i) {
    const auto token = static_cast<int32_t>(kernels::argmax(logits->data(), std::ssize(*logits)));
    if (tokenizer.ends_text(token)) break;
    out.tokens.push_back(token);
    const engine::Session::Step step{sequence, token};
    const auto next = session.decode({&step, 1});
    if (!next) return next.error();
    logits->assign(next->values().begin(), next->values().end());
  }
  session.remove(sequence);
  if (!logits) return logits.error();
  return out;
}

Result<std::vector<AnsweredPrompt>> make_samples(engine::Session& dense, const tokenizers::Tokenizer& tokenizer,
                                                 const MoaOptions& options, int length) {
  std::vector<engine::Document> haystacks = options.haystacks;
  if (haystacks.empty()) {
    FOVEA_ASSIGN_OR_RETURN(haystacks, tasks::default_haystacks());
  }
  tasks::NeedleOptions needles;
  needles.lengths = {length};
  needles.n_depths = options.samples;
  needles.seed = options.seed;
  FOVEA_ASSIGN_OR_RETURN(const std::vector<tasks::NeedlePrompt> prompts,
                         tasks::make_needle_prompts(dense.model().source(), tokenizer, haystacks, needles));
  std::vector<AnsweredPrompt> out;
  for (size_t i = 0; i < static_cast<size_t>(options.samples); ++i) {  // every needle, every depth
    const size_t n = prompts.size(), at = (i * n / static_cast<size_t>(options.samples) + i) % n;
    FOVEA_ASSIGN_OR_RETURN(AnsweredPrompt one, answered(dense, tokenizer, prompts[at].tokens, options.cancel));
    if (one.tokens.size() > one.n_prompt) out.push_back(std::move(one));
  }
  if (out.empty())
    return make_error(ErrorCode::kData,
                      "the model gives no answer to any prompt of {} tokens, so no loss tells heads apart", length);
  return out;
}

// Mean loss of the answers' tokens, each fed as if it had been generated.
Result<double> loss_of(engine::Session& session, const std::vector<AnsweredPrompt>& samples,
                       const std::atomic<bool>* cancel) {
  double sum = 0;
  size_t n = 0;
  for (const AnsweredPrompt& sample : samples) {
    const engine::SequenceId sequence = session.begin();
    FOVEA_ASSIGN_OR_RETURN(std::vector<float> logits,
                           session.prefill(sequence, std::span(sample.tokens).first(sample.n_prompt),
                                           {.progress = nullptr, .cancel = cancel, .on_logits = nullptr}));
    n += sample.tokens.size() - sample.n_prompt;
    for (size_t i = sample.n_prompt; i < sample.tokens.size(); ++i) {
      const int32_t token = sample.tokens[i];
      sum += static_cast<double>(kernels::log_sum_exp(logits.data(), std::ssize(logits))) -
             static_cast<double>(logits[static_cast<size_t>(token)]);
      if (i + 1 == sample.tokens.size()) break;
      const engine::Session::Step step{sequence, token};
      FOVEA_ASSIGN_OR_RETURN(const tensor::Tensor next, session.decode({&step, 1}));
      logits.assign(next.values().begin(), next.values().end());
    }
    session.remove(sequence);
  }
  return sum / static_cast<double>(n);
}

int longest_of(const MoaOptions& options) {
  return options.validate > 0 ? options.validate : 2 * options.lengths.back();
}

attention::HeadProfile profile_of(const attention::ModelShape& shape, const HeadRules& rules, int block) {
  attention::HeadProfile out{.model_sha256 = "",
                             .n_layers = shape.n_layers,
                             .n_heads = shape.n_heads,
                             .n_kv_heads = shape.n_kv_heads,
                             .columns = {}};
  set_spans(out, rules, block);
  return out;
}

}  // namespace

void set_spans(attention::HeadProfile& profile, const HeadRules& rules, int block) {
  std::vector<double> alphas, betas;
  for (const SpanRule& rule : rules) alphas.push_back(rule.alpha), betas.push_back(rule.beta);
  set_column(profile, "moa_alpha", std::move(alphas));
  set_column(profile, "moa_beta", std::move(betas));
  set_column(profile, "moa_block", {static_cast<double>(block)});
}

std::vector<SpanRule> span_rules(int shortest, int longest, int block) {
  const int step = std::max(block, shortest / kEighths / block * block);
  std::vector<SpanRule> out;
  for (int eighths = 0; eighths <= kEighths; ++eighths) {
    for (int alpha = -shortest / step * step; alpha <= longest; alpha += step) {
      const SpanRule rule{alpha, static_cast<double>(eighths) / kEighths};
      const double least = alpha + rule.beta * shortest, most = alpha + rule.beta * longest;
      if (least >= 2 * block && most <= longest) out.push_back(rule);
    }
  }
  return out;
}

int64_t span_blocks(const SpanRule& rule, int n_tokens, int block) {
  const double span = std::min(rule.alpha + rule.beta * n_tokens, static_cast<double>(n_tokens));
  return std::max<int64_t>(2, static_cast<int64_t>(std::floor(span / block)));
}

Result<std::vector<HeadRules>> plan_candidates(const Influences& influence, int n_layers, const MoaOptions& options) {
  const size_t n_lengths = options.lengths.size(), n_all = influence[0][0].by_distance.size();
  const size_t each = n_all / static_cast<size_t>(n_layers);
  const std::vector<SpanRule> rules = span_rules(options.lengths[0], longest_of(options), options.block);
  std::vector<int> at = options.lengths;
  at.push_back(longest_of(options));
  std::vector<std::vector<int64_t>> sizes;
  for (const SpanRule& rule : rules) {
    sizes.emplace_back();
    for (const int length : at) sizes.back().push_back(span_blocks(rule, length, options.block));
  }
  std::vector<int64_t> budgets;
  for (const int length : at)
    budgets.push_back(static_cast<int64_t>(options.density * static_cast<double>(n_all) * length / options.block));
  std::vector<size_t> order(n_all);  // whose influence a head is taken to have
  std::iota(order.begin(), order.end(), size_t{0});
  Rng random(options.seed);
  for (size_t i = 0; options.shuffled && i < n_all; ++i) std::swap(order[i], order[i + random.below(n_all - i)]);
  // Mean loss of each head and rule at each length, in shares of what all heads lose with the shortest spans.
  std::vector<std::vector<std::vector<double>>> lost(n_lengths);
  for (size_t t = 0; t < n_lengths; ++t) {
    double whole = 0;
    for (size_t id = 0; id < n_all; ++id) {
      lost[t].emplace_back();
      for (size_t p = 0; p < rules.size(); ++p) {
        double sum = 0;
        for (const Influence& sample : influence[t]) sum += sample.lost(order[id], sizes[p][t] - 1);
        lost[t].back().push_back(sum / static_cast<double>(influence[t].size()));
      }
      whole += *std::max_element(lost[t].back().begin(), lost[t].back().end());
    }
    for (auto& head : lost[t]) {
      for (double& x : head) x /= std::max(whole, 1e-30);
    }
  }
  std::vector<HeadRules> out;
  std::vector<std::vector<double>> weightings(1, std::vector<double>(n_lengths, 1.0 / static_cast<double>(n_lengths)));
  for (size_t t = 0; t < n_lengths && n_lengths > 1; ++t) {
    for (const double more : {0.5, 1.0}) {
      weightings.push_back(weightings[0]);
      for (size_t u = 0; u < n_lengths; ++u) weightings.back()[u] = (1 - more) * weightings[0][u] + (u == t ? more : 0);
    }
  }
  for (const std::vector<double>& weights : weightings) {
    std::vector<std::vector<std::vector<double>>> costs(static_cast<size_t>(n_layers));
    for (size_t id = 0; id < n_all; ++id) {
      std::vector<double> mine(rules.size(), 0.0);
      for (size_t t = 0; t < n_lengths; ++t) {
        for (size_t p = 0; p < rules.size(); ++p) mine[p] += weights[t] * lost[t][id][p];
      }
      costs[id / each].push_back(std::move(mine));
    }
    FOVEA_ASSIGN_OR_RETURN(const HeadPlans best, choose_head_plans(costs, sizes, budgets));
    HeadRules mine;
    for (const auto& layer : best.plans) {
      for (const size_t plan : layer) mine.push_back(rules[plan]);
    }
    if (std::find(out.begin(), out.end(), mine) == out.end()) out.push_back(std::move(mine));
  }
  return out;
}

Result<Influences> measure_influences(const std::shared_ptr<const engine::Model>& model,
                                      const tokenizers::Tokenizer& tokenizer, const MoaOptions& options) {
  const int longest = longest_of(options);
  if (longest + kMostAnswer > model->shape().n_ctx)
    return make_error(ErrorCode::kUsage, "candidates are compared at {} tokens, and this model was trained for {}",
                      longest, model->shape().n_ctx);
  if (options.lengths[0] < 16 * options.block)
    return make_error(ErrorCode::kUsage, "a length of {} has fewer than 16 blocks of {} tokens", options.lengths[0],
                      options.block);
  Status status;
  const auto dense = session_of(model, options, "dense", nullptr, status);
  FOVEA_RETURN_IF_ERROR(status);
  const int64_t total = std::ssize(options.lengths) * options.samples;
  int64_t done = 0;
  Influences out;
  for (const int length : options.lengths) {
    FOVEA_ASSIGN_OR_RETURN(const std::vector<AnsweredPrompt> samples, make_samples(*dense, tokenizer, options, length));
    out.emplace_back();
    for (const AnsweredPrompt& sample : samples) {
      if (options.progress) options.progress(done++, total, "influence of heads");
      FOVEA_ASSIGN_OR_RETURN(Influence one,
                             measure_influence(*model, sample.tokens, sample.n_prompt, options.block, options.cancel));
      out.back().push_back(std::move(one));
    }
  }
  return out;
}

Result<MoaPlan> plan_moa(std::shared_ptr<const engine::Model> model, const tokenizers::Tokenizer& tokenizer,
                         const MoaOptions& options) {
  FOVEA_ASSIGN_OR_RETURN(const Influences influence, measure_influences(model, tokenizer, options));
  return plan_moa(model, tokenizer, options, influence);
}

Result<MoaPlan> plan_moa(const std::shared_ptr<const engine::Model>& model, const tokenizers::Tokenizer& tokenizer,
                         const MoaOptions& options, const Influences& influence) {
  const attention::ModelShape& shape = model->shape();
  const int longest = longest_of(options);
  Status status;
  const auto dense = session_of(model, options, "dense", nullptr, status);
  FOVEA_RETURN_IF_ERROR(status);
  FOVEA_ASSIGN_OR_RETURN(const std::vector<HeadRules> candidates, plan_candidates(influence, shape.n_layers, options));
  FOVEA_ASSIGN_OR_RETURN(const std::vector<AnsweredPrompt> unseen, make_samples(*dense, tokenizer, options, longest));
  MoaPlan out;
  out.options = options;
  out.options.validate = longest;
  FOVEA_ASSIGN_OR_RETURN(out.dense_loss, loss_of(*dense, unseen, options.cancel));
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (options.progress) options.progress(static_cast<int64_t>(i), std::ssize(candidates), "comparing plans");
    const auto profile =
        std::make_shared<const attention::HeadProfile>(profile_of(shape, candidates[i], options.block));
    const auto session = session_of(model, options, "moa:plan=profile", profile, status);
    FOVEA_RETURN_IF_ERROR(status);
    FOVEA_ASSIGN_OR_RETURN(const double loss, loss_of(*session, unseen, options.cancel));
    out.candidate_losses.push_back(loss);
    if (i > 0 && loss >= out.loss) continue;
    out.loss = loss, out.rules = candidates[i];
    const auto uniform = session_of(model, options, "moa:plan=profile:control=uniform", profile, status);
    FOVEA_RETURN_IF_ERROR(status);
    FOVEA_ASSIGN_OR_RETURN(out.uniform_loss, loss_of(*uniform, unseen, options.cancel));
  }
  std::vector<int> at = options.lengths;
  at.push_back(longest);
  for (const int length : at) {
    int64_t blocks = 0;
    for (const SpanRule& rule : out.rules) blocks += span_blocks(rule, length, options.block);
    out.densities.push_back(static_cast<double>(blocks * options.block) /
                            (static_cast<double>(out.rules.size()) * length));
  }
  return out;
}

Result<std::vector<double>> answer_losses(const std::shared_ptr<const engine::Model>& model,
                                          const tokenizers::Tokenizer& tokenizer, const MoaOptions& options, int length,
                                          std::span<const Reading> readings) {
  Status status;
  const auto dense = session_of(model, options, "dense", nullptr, status);
  FOVEA_RETURN_IF_ERROR(status);
  FOVEA_ASSIGN_OR_RETURN(const std::vector<AnsweredPrompt> samples, make_samples(*dense, tokenizer, options, length));
  std::vector<double> out;
  for (const Reading& reading : readings) {
    if (options.progress) options.progress(std::ssize(out), std::ssize(readings), "losses of answers");
    const auto session = session_of(model, options, reading.attention, reading.profile, status);
    FOVEA_RETURN_IF_ERROR(status);
    FOVEA_ASSIGN_OR_RETURN(const double loss, loss_of(*session, samples, options.cancel));
    out.push_back(loss);
  }
  return out;
}

nlohmann::ordered_json MoaPlan::how() const {
  return {
      {"lengths", options.lengths},
      {"validate", options.validate},
      {"density", options.density},
      {"block", options.block},
      {"samples", options.samples},
      {"seed", options.seed},
      {"shuffled", options.shuffled},
      {"densities", densities},
      {"loss", {{"dense", dense_loss}, {"plan", loss}, {"uniform", uniform_loss}, {"candidates", candidate_losses}}}};
}

}  // namespace fovea::probe
