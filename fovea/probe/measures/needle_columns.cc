#include "fovea/probe/measures/needle_columns.h"

#include <algorithm>
#include <utility>

#include "fovea/base/random.h"
#include "fovea/probe/measures/column.h"
#include "fovea/probe/measures/needle_reader.h"

namespace fovea::probe {
namespace {

FOVEA_PROFILE_COLUMN(retrieval, kHead, "mean share of the needle that the head copied; 0.1 or more: a retrieval head");
FOVEA_PROFILE_COLUMN(retrieval_code, kHead, "the same as the authors' program counts: a position may count twice");
FOVEA_PROFILE_COLUMN(activation_frequency, kHead, "share of the answers in which the head copied anything");
FOVEA_PROFILE_COLUMN(kv_group_max, kKvHead, "the best retrieval among the query heads that share the KV head");

// A place for the needle's label that does not touch the needle.
tasks::TokenSpan moved(const tasks::NeedlePrompt& prompt, Rng& random) {
  const auto size = prompt.answer.size();
  const auto n_places = static_cast<uint64_t>(static_cast<int64_t>(prompt.tokens.size()) - size + 1);
  for (;;) {
    const auto begin = static_cast<int32_t>(random.below(n_places));
    if (begin + size <= prompt.answer.begin || begin >= prompt.answer.end) return {begin, begin + size};
  }
}

}  // namespace

Status measure_retrieval(engine::Session& session, const tokenizers::Tokenizer& tokenizer,
                         const ProfileOptions& options, MeasuredProfile& out) {
  NeedleReader reader(session, tokenizer);
  Rng random(options.needle.seed + 1);
  const auto n_all = head_id(out.heads.n_layers, 0, out.heads.n_heads);
  std::vector<double> paper(n_all), code(n_all), active(n_all);
  int64_t accepted = 0;
  for (size_t i = 0; i < out.prompts.size(); ++i) {
    const tasks::NeedlePrompt& prompt = out.prompts[i];
    FOVEA_ASSIGN_OR_RETURN(const NeedleSample answer,
                           reader.answer(prompt, options.needle, /*with_trace=*/true, options.cancel));
    ProfileSample sample{i, answer.text, answer.recall, answer.accepted, {}, {}};
    if (answer.accepted) {
      ++accepted;
      sample.scores = retrieval_scores(answer.trace, prompt.tokens, prompt.answer);
      sample.scores_moved = retrieval_scores(answer.trace, prompt.tokens, moved(prompt, random));
      const auto by_code = retrieval_scores(answer.trace, prompt.tokens, prompt.answer, ScoreVariant::kCode);
      for (size_t head = 0; head < n_all; ++head) {
        paper[head] += sample.scores[head];
        code[head] += by_code[head];
        active[head] += sample.scores[head] > 0 ? 1 : 0;
      }
    }
    out.samples.push_back(std::move(sample));
    if (options.progress)
      options.progress(static_cast<int64_t>(i + 1), static_cast<int64_t>(out.prompts.size()), accepted);
    if (options.cancel && options.cancel->load()) return make_error(ErrorCode::kCancelled, "interrupted");
  }
  if (accepted == 0) return {};
  for (auto* values : {&paper, &code, &active}) {
    for (double& value : *values) value /= static_cast<double>(accepted);
  }
  std::vector<double> group_max;
  const auto group = static_cast<ptrdiff_t>(session.shape().group());
  for (auto first = paper.begin(); first != paper.end(); first += group)
    group_max.push_back(*std::max_element(first, first + group));
  set_column(out.heads, "retrieval", std::move(paper));
  set_column(out.heads, "retrieval_code", std::move(code));
  set_column(out.heads, "activation_frequency", std::move(active));
  set_column(out.heads, "kv_group_max", std::move(group_max));
  return {};
}

}  // namespace fovea::probe
