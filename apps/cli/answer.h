// How an answer is shown: streamed to stdout, its JSON, its timings.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "apps/cli/model_session.h"
#include "fovea/engine/generate.h"

namespace fovea::cli {

// Adds to `options` what a person sees while a prompt is read and answered: a bar, then the text on
// stdout as it comes (with --json: neither text nor bar). One for each answer.
class AnswerStream {
 public:
  AnswerStream(const Common& common, engine::GenerateOptions& options);
  // Ends the line that the answer stands on.
  Status end();

 private:
  const Common& common_;
  PrefillProgress bar_;
  bool open_line_ = false;
};

// [{"id", "piece"}]. A piece may be part of a character: its bytes are then given beside it, as numbers.
nlohmann::json tokens_json(std::span<const int32_t> ids, const tokenizers::Tokenizer& tokenizer);
// The same; of a model without a tokenizer the pieces are null.
nlohmann::json tokens_json(std::span<const int32_t> ids, const engine::Model& model);
// {"text", "tokens", "finish_reason", "timings"}; "logprobs" as in OpenAI's API, if they were asked for.
nlohmann::json answer_json(const engine::Generation& answer, const engine::Model& model);
// What a run depends on, for every report: model, path, attention, numerics, cache_type, n_ctx, isa, threads.
nlohmann::json setting_json(const engine::Session& session);
// "prompt 31 tokens in 0.12 s (258.3/s); answer 12 tokens in 0.20 s (60.0/s), 5 of 8 drafted kept; stop"
std::string timings_line(const engine::Generation& answer);
// ", 5 of 8 drafted kept", or nothing
std::string drafted_text(const engine::Generation& answer);

}  // namespace fovea::cli
