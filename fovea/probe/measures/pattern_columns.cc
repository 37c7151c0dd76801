#include "fovea/probe/measures/pattern_columns.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/probe/capture/pattern_statistics.h"
#include "fovea/probe/measures/column.h"

namespace fovea::probe {
namespace {

FOVEA_PROFILE_COLUMN(sink_mass, kHead, "mean mass of the first key, over 512 tokens of text");
FOVEA_PROFILE_COLUMN(local_mass, kHead, "mean mass of the last 32 keys, over 512 tokens of text");
FOVEA_PROFILE_COLUMN(previous_token, kHead, "mean mass of the key before, over 512 tokens of text");
FOVEA_PROFILE_COLUMN(act_sinks, kHead,
                     "share of later keys whose mean weight is over 0.1 (hidden sinks), over 512 tokens of text");
FOVEA_PROFILE_COLUMN(induction, kHead,
                     "mean mass of the token after the last occurrence of the current one, in repeated random tokens");

}  // namespace

Status measure_patterns(engine::Session& session, const tokenizers::Tokenizer& tokenizer, const std::string& text,
                        uint64_t seed, attention::HeadProfile& out) {
  constexpr size_t kTextTokens = 512;
  const size_t n_repeated = std::clamp<size_t>(static_cast<size_t>(session.n_ctx()) / 2, 1, 64);
  const attention::ModelShape& shape = session.shape();
  FOVEA_ASSIGN_OR_RETURN(std::vector<int32_t> tokens,
                         tokenizer.encode(std::string_view(text).substr(0, kTextTokens * 12)));
  tokens.resize(std::min({tokens.size(), kTextTokens, static_cast<size_t>(session.n_ctx())}));
  const auto run = [&](PatternStatistics& statistics, std::span<const int32_t> prompt) -> Status {
    session.observe(&statistics);
    const engine::SequenceId sequence = session.begin();
    auto done = session.prefill(sequence, prompt);
    session.stop_observing(&statistics);
    session.remove(sequence);
    return done ? Status() : Status(std::move(done.error()));
  };
  // Of a short context the second half: rows there must be.
  const int first = std::min(2 * PatternStatistics::kLocal, static_cast<int>(tokens.size()) / 2);
  PatternStatistics natural(shape.n_layers, shape.n_heads, first, 0);
  FOVEA_RETURN_IF_ERROR(run(natural, tokens));
  set_column(out, "sink_mass", natural.sink());
  set_column(out, "local_mass", natural.local());
  set_column(out, "previous_token", natural.previous());
  set_column(out, "act_sinks", natural.hidden_sinks(0.1));

  Rng random(seed);
  std::vector<int32_t> repeated;
  while (repeated.size() < n_repeated) {
    const auto id =
        static_cast<int32_t>(random.below(static_cast<uint64_t>(std::min(shape.vocab_size, tokenizer.vocab_size()))));
    if (!tokenizer.is_control(id)) repeated.push_back(id);
  }
  repeated.reserve(2 * n_repeated);
  for (size_t i = 0; i < n_repeated; ++i) repeated.push_back(repeated[i]);
  PatternStatistics twice(shape.n_layers, shape.n_heads, static_cast<int>(n_repeated), static_cast<int>(n_repeated));
  FOVEA_RETURN_IF_ERROR(run(twice, repeated));
  set_column(out, "induction", twice.induction());
  return {};
}

}  // namespace fovea::probe
