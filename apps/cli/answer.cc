#include "apps/cli/answer.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "fovea/base/threads.h"
#include "fovea/kernels/isa.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::cli {
namespace {

double per_second(double n, double seconds) { return seconds > 0 ? n / seconds : 0; }

}  // namespace

AnswerStream::AnswerStream(const Common& common, engine::GenerateOptions& options)
    : common_(common), bar_(common, "reading the prompt") {
  options.prefill.progress = [this](int64_t done, int64_t total) {
    if (done == total) {
      bar_.clear();
    } else {
      bar_.update(done, total);
    }
  };
  if (common_.json) return;
  options.on_text = [this](std::string_view text) {
    open_line_ = text.back() != '\n';
    return print(printable(text));
  };
}

Status AnswerStream::end() {
  bar_.clear();
  if (!open_line_) return {};
  open_line_ = false;
  return print("\n");
}

nlohmann::json tokens_json(std::span<const int32_t> ids, const tokenizers::Tokenizer& tokenizer) {
  nlohmann::json rows = nlohmann::json::array();
  for (const int32_t id : ids) {
    const std::string_view piece = tokenizer.piece(id);
    nlohmann::json row = {{"id", id}, {"piece", tokenizers::replace_invalid_utf8(piece)}};
    if (!tokenizers::is_utf8(piece)) row["bytes"] = std::vector<uint8_t>(piece.begin(), piece.end());
    rows.push_back(std::move(row));
  }
  return rows;
}

nlohmann::json tokens_json(std::span<const int32_t> ids, const engine::Model& model) {
  if (const auto tokenizer = model.tokenizer()) {
    const int32_t known = tokenizer.value()->vocab_size();  // a model may have rows for more
    if (std::all_of(ids.begin(), ids.end(), [known](int32_t id) { return id < known; }))
      return tokens_json(ids, *tokenizer.value());
  }
  nlohmann::json rows = nlohmann::json::array();
  for (const int32_t id : ids) rows.push_back({{"id", id}, {"piece", nullptr}});
  return rows;
}

nlohmann::json logprob_json(const engine::TokenLogprob& entry, const tokenizers::Tokenizer* tokenizer) {
  constexpr float kImpossible = -9999;  // JSON has no infinity; OpenAI's API writes this
  nlohmann::json row = {
      {"id", entry.token}, {"token", nullptr}, {"logprob", std::max(entry.logprob, kImpossible)}, {"bytes", nullptr}};
  if (!tokenizer) return row;
  const std::string_view piece = tokenizer->piece(entry.token);
  row["token"] = tokenizers::replace_invalid_utf8(piece);
  row["bytes"] = std::vector<uint8_t>(piece.begin(), piece.end());
  return row;
}

nlohmann::json logprobs_json(const engine::Generation& answer, const tokenizers::Tokenizer* tokenizer) {
  nlohmann::json content = nlohmann::json::array();
  for (const engine::PositionLogprobs& position : answer.logprobs) {
    nlohmann::json row = logprob_json(position.chosen, tokenizer);
    row["top_logprobs"] = nlohmann::json::array();
    for (const engine::TokenLogprob& entry : position.top)
      row["top_logprobs"].push_back(logprob_json(entry, tokenizer));
    content.push_back(std::move(row));
  }
  return {{"content", std::move(content)}};
}

nlohmann::json answer_json(const engine::Generation& answer, const engine::Model& model) {
  const auto n_prompt = static_cast<double>(answer.n_prompt), n_predicted = static_cast<double>(answer.tokens.size());
  nlohmann::json out = {{"text", answer.text},
                        {"tokens", tokens_json(answer.tokens, model)},
                        {"finish_reason", name_of(answer.finish)},
                        {"timings",
                         {{"prompt_n", answer.n_prompt},
                          {"prompt_ms", answer.prompt_seconds * 1e3},
                          {"prompt_per_second", per_second(n_prompt, answer.prompt_seconds)},
                          {"predicted_n", answer.tokens.size()},
                          {"predicted_ms", answer.predicted_seconds * 1e3},
                          {"predicted_per_second", per_second(n_predicted, answer.predicted_seconds)},
                          {"draft_n", answer.n_drafted},
                          {"draft_accepted_n", answer.n_accepted}}}};
  const auto tokenizer = model.tokenizer();
  if (!answer.logprobs.empty()) out["logprobs"] = logprobs_json(answer, tokenizer ? tokenizer->get() : nullptr);
  return out;
}

nlohmann::json setting_json(const engine::Session& session) {
  nlohmann::json out = {{"model", session.model().path()},
                        {"attention", session.pipeline().spec()},
                        {"numerics", session.numerics() == kernels::Numerics::kExact ? "exact" : "fast"},
                        {"cache_type", attention::name_of(session.cache().shape().types())},
                        {"n_ctx", session.n_ctx()},
                        {"repack_budget_bytes", session.model().repack_budget()},
                        {"packed_bytes", session.model().packed_bytes()},
                        {"isa", kernels::name_of(kernels::active_isa())},
                        {"threads", pool().size()}};
  if (session.adapters()) out["adapters_sha256"] = session.adapters()->sha256();
  return out;
}

std::string timings_line(const engine::Generation& answer) {
  const auto n_prompt = static_cast<double>(answer.n_prompt), n_predicted = static_cast<double>(answer.tokens.size());
  return fmt::format("prompt {} tokens in {:.2f} s ({:.1f}/s); answer {} tokens in {:.2f} s ({:.1f}/s){}; {}",
                     answer.n_prompt, answer.prompt_seconds, per_second(n_prompt, answer.prompt_seconds),
                     answer.tokens.size(), answer.predicted_seconds, per_second(n_predicted, answer.predicted_seconds),
                     drafted_text(answer), name_of(answer.finish));
}

std::string drafted_text(const engine::Generation& answer) {
  if (answer.n_drafted == 0) return "";
  return fmt::format(", {} of {} drafted kept", answer.n_accepted, answer.n_drafted);
}

}  // namespace fovea::cli
