// fovea run -m MODEL "PROMPT"
#include <nlohmann/json.hpp>

#include "apps/cli/answer.h"
#include "apps/cli/chat_flags.h"
#include "apps/cli/estimate.h"
#include "apps/cli/model_session.h"
#include "apps/cli/text_or_ids.h"
#include "fovea/engine/chat.h"
#include "fovea/engine/key_bytes.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/store/model_store.h"

namespace fovea::cli {
namespace run_command {

struct Options {
  ModelFlags model;
  SamplingFlags sampling;
  TextOrIdsFlags text;
  ChatFlags chat;
  std::string system;
  bool raw = false, parse_special = false, estimate = false;
  int n_logprobs = -1;
};

using TokenizerOrError = Result<std::shared_ptr<const tokenizers::Tokenizer>>;

// `tokenizer` makes one where there is a text: ids need none.
Result<std::vector<int32_t>> prompt_tokens(const Options& options, const TextOrIds& text, int64_t vocab_size,
                                           const engine::ChatOptions& chat, const formats::ModelSource& source,
                                           const std::function<TokenizerOrError()>& make_tokenizer) {
  std::vector<int32_t> tokens;
  if (text.ids) {
    FOVEA_ASSIGN_OR_RETURN(tokens, text.checked_ids(vocab_size));
    return tokens;
  }
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, make_tokenizer());
  if (options.raw) {
    FOVEA_ASSIGN_OR_RETURN(tokens, tokenizer->encode(text.text, {.parse_special = options.parse_special}));
  } else if (!text.text.empty()) {
    nlohmann::ordered_json messages = nlohmann::ordered_json::array();
    if (!options.system.empty()) messages.push_back({{"role", "system"}, {"content", options.system}});
    messages.push_back({{"role", "user"}, {"content", text.text}});
    auto prompt = engine::encode_chat(source, *tokenizer, messages, chat);
    if (!prompt && prompt.error().code == ErrorCode::kNotFound)
      prompt.error().message += "; --raw gives it the prompt as it is";
    if (!prompt) return prompt.error();
    tokens = std::move(prompt.value().tokens);
  }
  if (tokens.empty()) return make_error(ErrorCode::kUsage, "the prompt is empty");
  return tokens;
}

// From the file's metadata: no weight is read.
Status estimate(const Options& options, const TextOrIds& text, const engine::ChatOptions& chat, const Common& common) {
  FOVEA_ASSIGN_OR_RETURN(const std::string path, store::resolve_model(common.model));
  FOVEA_ASSIGN_OR_RETURN(const auto source, formats::open_model(path));
  FOVEA_ASSIGN_OR_RETURN(const models::ModelSizes sizes, models::read_sizes(*source));
  FOVEA_ASSIGN_OR_RETURN(
      const std::vector<int32_t> tokens,
      prompt_tokens(options, text, sizes.vocab_size, chat, *source, [&] { return engine::load_tokenizer(*source); }));
  return print_estimate(common, options.model, static_cast<int64_t>(tokens.size()), options.sampling.n_predict);
}

Status run(const Options& options, const Common& common) {
  const Interrupt interrupt;
  if (options.raw && !options.system.empty())
    return make_error(ErrorCode::kUsage, "--system needs the chat template that --raw leaves out");
  if (options.raw && options.chat.any())
    return make_error(ErrorCode::kUsage,
                      "--raw leaves out the chat template that tools, variables and the like are for");
  if (options.parse_special && !options.raw)
    return make_error(ErrorCode::kUsage, "--parse-special goes with --raw only");
  FOVEA_ASSIGN_OR_RETURN(const engine::ChatOptions chat, chat_options(options.chat));
  FOVEA_ASSIGN_OR_RETURN(const TextOrIds text, read_text_or_ids(options.text));
  if (text.ids && !options.raw) return make_error(ErrorCode::kUsage, "--ids goes with --raw only");
  if (options.n_logprobs >= 0 && !common.json) return make_error(ErrorCode::kUsage, "--logprobs goes with --json only");
  if (options.estimate) return estimate(options, text, chat, common);
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, options.model));
  FOVEA_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                         prompt_tokens(options, text, model->shape().vocab_size, chat, model->source(),
                                       [&] { return model->tokenizer(); }));
  const auto n_tokens = static_cast<int64_t>(tokens.size());
  FOVEA_ASSIGN_OR_RETURN(const auto session, open_session(model, common, options.model, n_tokens));
  FOVEA_ASSIGN_OR_RETURN(engine::GenerateOptions generate, generate_options(options.sampling, *model));
  generate.n_logprobs = options.n_logprobs;
  FOVEA_ASSIGN_OR_RETURN(const engine::SequenceId sequence, begin_sequence(*session, options.model, n_tokens));

  show_seed(common, options.sampling.seed);
  AnswerStream stream(common, generate);
  const auto answer = engine::generate(*session, sequence, tokens, generate);
  FOVEA_RETURN_IF_ERROR(stream.end());
  if (!answer) return answer.error();
  if (common.json) {
    nlohmann::json out = answer_json(answer.value(), *model);
    out.update(setting_json(*session));
    out["seed"] = options.sampling.seed.value;
    const engine::KeyBytes bytes = engine::key_bytes(*session, sequence);
    out["cost"] = {{"kv_bytes", bytes.kept},
                   {"kv_bytes_dense", bytes.dense},
                   {"key_share", engine::key_share(*session, attention::KeyCount{})}};
    if (!options.model.soft_prompt.empty()) out["soft_prompt"] = options.model.soft_prompt;
    FOVEA_RETURN_IF_ERROR(print_json(out));
  } else if (!common.quiet) {
    tell_line(timings_line(answer.value()));
  }
  if (answer.value().finish == engine::Finish::kCancelled) return make_error(ErrorCode::kCancelled, "interrupted");
  return {};
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  add_text_or_ids_flags(sub, options->text, "PROMPT", /*with_prompt_flag=*/true);
  add_model_flags(sub, common, options->model);
  add_soft_prompt_flag(sub, options->model);
  add_sampling_flags(sub, options->sampling);
  sub.add_option("--system", options->system, "a system message before the prompt");
  add_chat_flags(sub, options->chat);
  sub.add_flag("--raw", options->raw, "no chat template: the prompt as it is, the model goes on from there");
  sub.add_flag("--parse-special", options->parse_special,
               "with --raw: <|im_end|> and the like in the prompt are special tokens");
  sub.add_option("--logprobs", options->n_logprobs,
                 "with --json: how likely each token of the answer was, and so many of the likeliest in its place")
      .transform(in_range(int64_t{0}, int64_t{engine::GenerateOptions::kMostLogprobs}));
  sub.add_flag("--estimate", options->estimate, "only print what memory and time it would take");
  return [options, &common] { return run(*options, common); };
}

FOVEA_COMMAND("run", "answer one prompt", "fovea run -m smollm2-135m \"Name three colours.\"", setup)

}  // namespace run_command
}  // namespace fovea::cli
