// The plan of MoA (arXiv:2406.14909, sec. 4): a rule for each KV head's span, alpha + beta N keys of a text of N
// tokens, so that the loss changes least, by influence profiles at several lengths, while the spans keep within a share
// of the text at each of these and at a longer one; chosen among candidates by the loss at that longer length.
//
// Texts are needle prompts with the answers that the dense model itself gives; the loss is of the answers alone. Heads
// get plans exactly (head_plans.h), with at most two in a layer. Differs: the paper finds its candidates with the
// other lengths' objectives as bounds, here they are the best for weighted sums of them.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "fovea/engine/document_prompt.h"
#include "fovea/engine/model.h"
#include "fovea/probe/measures/influence.h"
#include "fovea/tasks/needle.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::probe {

struct MoaOptions {
  std::vector<int> lengths = {512, 1024};   // tokens, rising, where influence is measured
  int validate = 0;                         // where candidates are compared, and budgets hold too; 0: twice the longest
  double density = 0.5;                     // mean span over the length, at most
  int block = 16;                           // tokens
  int samples = 4;                          // prompts of each length
  uint64_t seed = 0;                        // of the prompts
  bool shuffled = false;                    // negative control: influence of heads is dealt out at random, by seed
  std::vector<engine::Document> haystacks;  // none: tasks::default_haystacks()
  kernels::Numerics numerics = kernels::Numerics::kFast;  // of answers and validation
  std::function<void(int64_t done, int64_t total, const char* what)> progress;
  const std::atomic<bool>* cancel = nullptr;
};

struct SpanRule {
  int alpha = 0;    // tokens
  double beta = 0;  // eighths
  bool operator==(const SpanRule&) const = default;
};
// Rules with eighths of the text and tokens in steps of an eighth of the shortest length, in whole blocks: spans of two
// blocks or more at the shortest length, and no longer than the text at the longest.
std::vector<SpanRule> span_rules(int shortest, int longest, int block);
// Blocks of a span at this length, the first block among them.
int64_t span_blocks(const SpanRule& rule, int n_tokens, int block);

using Influences = std::vector<std::vector<Influence>>;  // [length][sample]
// Over the dense model's answers to the prompts of each length. kUsage for lengths that the model or the haystacks do
// not have, kData where the model gives no answer.
Result<Influences> measure_influences(const std::shared_ptr<const engine::Model>& model,
                                      const tokenizers::Tokenizer& tokenizer, const MoaOptions& options);
// For each weighting of the lengths: a rule for every KV head.
using HeadRules = std::vector<SpanRule>;  // [n_layers * n_kv_heads]
Result<std::vector<HeadRules>> plan_candidates(const Influences& influence, int n_layers, const MoaOptions& options);

struct MoaPlan {
  HeadRules rules;
  std::vector<double> densities;                      // at each length, and at that of validation
  double loss = 0, dense_loss = 0, uniform_loss = 0;  // of answers at the length of validation, in nats a token
  std::vector<double> candidate_losses;
  MoaOptions options;
  nlohmann::ordered_json how() const;  // for the profile
};
// Errors as measure_influences.
Result<MoaPlan> plan_moa(std::shared_ptr<const engine::Model> model, const tokenizers::Tokenizer& tokenizer,
                         const MoaOptions& options);
// The same from influence that was measured before, with the same lengths, block and samples.
Result<MoaPlan> plan_moa(const std::shared_ptr<const engine::Model>& model, const tokenizers::Tokenizer& tokenizer,
                         const MoaOptions& options, const Influences& influence);

// A way to read, with a head profile for methods that need one.
struct Reading {
  std::string attention = "dense";
  std::shared_ptr<const attention::HeadProfile> profile = nullptr;
};
// The loss of the dense model's own answers to `options.samples` prompts of one length, read in each of these ways, in
// nats a token.
Result<std::vector<double>> answer_losses(const std::shared_ptr<const engine::Model>& model,
                                          const tokenizers::Tokenizer& tokenizer, const MoaOptions& options, int length,
                                          std::span<const Reading> readings);

// As the columns moa_alpha, moa_beta and moa_block.
void set_spans(attention::HeadProfile& profile, const HeadRules& rules, int block);

}  // namespace fovea::probe
