// fovea logits -m MODEL (-f FILE, TEXT or --ids FILE) -o OUT.npy
#include <nlohmann/json.hpp>

#include "apps/cli/answer.h"
#include "apps/cli/model_session.h"
#include "apps/cli/text_or_ids.h"
#include "fovea/base/file_writer.h"
#include "fovea/base/npy.h"

namespace fovea::cli {
namespace logits_command {

struct Options {
  ModelFlags model;
  TextOrIdsFlags text;
  std::string out;
  bool parse_special = false;
};

Status logits(const Options& options, const Common& common) {
  const Interrupt interrupt;
  FOVEA_ASSIGN_OR_RETURN(const TextOrIds text, read_text_or_ids(options.text));
  FOVEA_ASSIGN_OR_RETURN(FileWriter file, open_output(options.out, common, OutputIs::kBytes));
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, options.model));
  FOVEA_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                         text.tokens(*model, {.parse_special = options.parse_special}));
  if (tokens.empty()) return make_error(ErrorCode::kUsage, "the text is empty");
  const auto n_tokens = static_cast<int64_t>(tokens.size());
  FOVEA_ASSIGN_OR_RETURN(const auto session, open_session(model, common, options.model, n_tokens));
  FOVEA_ASSIGN_OR_RETURN(const engine::SequenceId sequence, begin_sequence(*session, options.model, n_tokens));
  const int64_t vocab = session->shape().vocab_size;
  const std::string header = npy_header(n_tokens, vocab);
  const uint64_t bytes = header.size() + tokens.size() * static_cast<uint64_t>(vocab) * sizeof(float);
  FOVEA_RETURN_IF_ERROR(file.check_space(bytes));
  if (!common.quiet) tell("{} tokens x {} logits, {:.1f} MB", n_tokens, vocab, static_cast<double>(bytes) / 1e6);

  FOVEA_RETURN_IF_ERROR(file.write(header));
  PrefillProgress bar(common, "reading the text");
  engine::PrefillOptions prefill;
  prefill.cancel = &Interrupt::flag();
  prefill.progress = [&](int64_t done, int64_t total) { bar.update(done, total); };
  prefill.on_logits = [&](int64_t, const tensor::Tensor& rows) {
    return file.write(std::as_bytes(std::span(std::as_const(rows).values())));
  };
  const auto done = session->prefill(sequence, tokens, prefill);
  bar.clear();
  if (!done) return done.error();
  FOVEA_RETURN_IF_ERROR(file.commit());
  if (file.to_stdout()) return {};
  if (!common.json) return print(printable(options.out) + "\n");
  nlohmann::json out = setting_json(*session);
  out.update(
      {{"tokens", tokens_json(tokens, *model)}, {"path", options.out}, {"shape", {n_tokens, vocab}}, {"bytes", bytes}});
  if (!options.model.soft_prompt.empty()) out["soft_prompt"] = options.model.soft_prompt;
  return print_json(out);
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  options->model.decodes = false;
  options->model.chunk = 128;  // each token has a row of logits as long as the vocabulary
  add_text_or_ids_flags(sub, options->text, "TEXT", /*with_prompt_flag=*/false);
  sub.add_option("-o,--output", options->out, "the NumPy file to write: float32 [n_tokens, vocab_size]; - is stdout")
      .required();
  add_model_flags(sub, common, options->model);
  add_soft_prompt_flag(sub, options->model);
  sub.add_flag("--parse-special", options->parse_special, "<|im_end|> and the like in the text are special tokens");
  return [options, &common] { return logits(*options, common); };
}

FOVEA_COMMAND("logits", "the logits after every token of a text, as a NumPy file",
              "fovea logits -m smollm2-135m \"The capital of France is\" -o logits.npy", setup)

}  // namespace logits_command
}  // namespace fovea::cli
