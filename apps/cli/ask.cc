// fovea ask --file FILE "QUESTION"
#include "fovea/probe/evidence/ask.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/cli/answer.h"
#include "apps/cli/documents.h"
#include "apps/cli/estimate.h"
#include "apps/cli/looks.h"
#include "apps/cli/model_session.h"
#include "apps/cli/prefix_cache.h"
#include "fovea/base/bytes.h"
#include "fovea/base/text_file.h"
#include "fovea/engine/generate.h"
#include "fovea/engine/model_check.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/store/model_store.h"

namespace fovea::cli {
namespace ask_command {

constexpr int kAnswerRoom = 32;  // tokens that must be left for an answer

struct Options {
  ModelFlags model;
  PrefixFlags prefix;
  std::vector<std::string> words;  // the question, and what follows a --file
  std::string question;
  std::vector<std::string> named, files;  // behind each --file; all of them
  engine::LookupOptions lookup;
  std::string look = "auto";
  int n_predict = 256;
  bool small = false, estimate = false;
  std::optional<tasks::AutoChoice> chosen;  // by auto
};

// The prompt, and what it is read with, from the file's metadata alone: that it fits is known before any weight is
// read.
Result<engine::DocumentPrompt> prompt_that_fits(Options& options, const Common& common,
                                                std::span<const engine::Document> documents) {
  FOVEA_ASSIGN_OR_RETURN(const std::string path, store::resolve_model(common.model));
  FOVEA_ASSIGN_OR_RETURN(const auto source, formats::open_model(path));
  FOVEA_ASSIGN_OR_RETURN(const models::Config config, models::read_config(*source));
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, engine::load_tokenizer(*source));
  FOVEA_ASSIGN_OR_RETURN(engine::DocumentPrompt prompt,
                         engine::make_document_prompt(*source, *tokenizer, documents, options.question));
  const auto n_tokens = static_cast<int64_t>(prompt.tokens.size());
  FOVEA_ASSIGN_OR_RETURN(options.chosen, choose_attention(common, options.model, path, config.shape, n_tokens));
  if (options.chosen) options.model.attention = options.chosen->spec;
  const int64_t most = context_of(options.model, config.shape);
  const int64_t n_ctx = options.model.n_ctx > 0 ? std::min<int64_t>(options.model.n_ctx, most) : most;
  if (n_tokens + kAnswerRoom > n_ctx) {
    const bool dense = options.model.attention == "dense";
    return make_error(
        ErrorCode::kLimit, "{} and the question are {} tokens, and {} of answer must fit too; {} reads {}{}{}",
        documents.size() == 1 ? quote(documents[0].name, 4096) : fmt::format("the {} files", documents.size()),
        n_tokens, kAnswerRoom, store::model_name(path), n_ctx, n_ctx < most ? " (--ctx-size)" : "",
        dense ? "; --attention streaming-llm reads on without end, and knows the beginning and the last of it"
              : fmt::format("; with {} some row looks back further than that", options.model.attention));
  }
  if (options.chosen) tell_choice(common, *options.chosen, n_tokens);
  return prompt;
}

// What reading with dense attention would have taken, less what it took; null where nothing was measured.
std::optional<double> seconds_saved(const Options& options, double prefill_seconds) {
  if (!options.chosen || options.chosen->spec == "dense" || options.chosen->measured_at == 0) return std::nullopt;
  return prefill_seconds * (options.chosen->prefill_speedup - 1);
}

Status ask(Options options, const Common& common) {
  const Interrupt interrupt;
  FOVEA_ASSIGN_OR_RETURN(const std::vector<engine::Document> documents, read_documents(options.files));
  if (!options.estimate) FOVEA_RETURN_IF_ERROR(fetch_if_absent(common));
  FOVEA_ASSIGN_OR_RETURN(const engine::DocumentPrompt prompt, prompt_that_fits(options, common, documents));
  if (options.estimate)
    return print_estimate(common, options.model, static_cast<int64_t>(prompt.tokens.size()), options.n_predict);
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, options.model));
  FOVEA_ASSIGN_OR_RETURN(const auto session, open_session(model, common, options.model));
  FOVEA_ASSIGN_OR_RETURN(const auto profile, profile_of(*session, common));

  engine::GenerateOptions generate;
  generate.n_predict = options.n_predict;
  generate.sampling = {.temperature = 0};
  generate.cancel = generate.prefill.cancel = &Interrupt::flag();
  AnswerStream stream(common, generate);
  generate.lookup = options.lookup;
  if (options.look != "once") generate.n_logprobs = 0;
  engine::DocumentPrompt whole = prompt;
  std::optional<engine::SequenceId> begun;
  PrefixFlags prefix = options.prefix;
  if (!options.model.soft_prompt.empty()) {
    FOVEA_ASSIGN_OR_RETURN(begun, begin_sequence(*session, options.model, static_cast<int64_t>(prompt.tokens.size())));
    const auto n_rows = static_cast<size_t>(session->length(*begun));  // under ids that name nothing
    whole.tokens.insert(whole.tokens.begin(), n_rows, 0);
    whole.places.insert(whole.places.begin(), n_rows, engine::DocumentPrompt::Place{});
    whole.n_shared += n_rows;
    for (attention::Span& segment : whole.segments) {
      segment.begin += static_cast<int32_t>(n_rows);
      segment.end += static_cast<int32_t>(n_rows);
    }
    prefix.dir = "off";  // what is kept is found by ids
  }
  engine::PrefixStore store = open_prefix_store(prefix);
  const auto asked = probe::ask(*session, store, documents, whole, profile.get(), generate, begun);
  FOVEA_RETURN_IF_ERROR(stream.end());
  if (!asked) return asked.error();

  const engine::Generation& answer = asked->answer;
  bool interrupted = answer.finish == engine::Finish::kCancelled;
  std::optional<probe::Looked> looked;
  if (options.look != "once" && !interrupted) {
    std::optional<engine::SequenceId> rows;
    if (begun) {
      FOVEA_ASSIGN_OR_RETURN(rows, begin_sequence(*session, options.model, static_cast<int64_t>(prompt.tokens.size())));
    }
    probe::LookOptions look = look_options(options.look);
    look.cancel = &Interrupt::flag();
    look.n_predict = std::min(look.n_predict, options.n_predict);
    auto again = probe::look_again(*session, documents, options.question, whole, answer, asked->seen, rows, look);
    if (rows) session->remove(*rows);
    interrupted = !again && again.error().code == ErrorCode::kCancelled;
    if (!again && !interrupted) return again.error();
    if (again) looked = *std::move(again);
  }
  if (common.json) {
    nlohmann::json out = setting_json(*session);
    if (begun) out["soft_prompt"] = options.model.soft_prompt;
    out.update({{"answer", looked ? answer_text(*looked) : answer.text},
                {"evidence", evidence_json(asked->evidence, documents)},
                {"finish_reason", name_of(answer.finish)},
                {"model", store::model_name(model->path())},
                {"cost",
                 {{"prompt_tokens", prompt.tokens.size()},
                  {"prefix_tokens", asked->n_stored},
                  {"answer_tokens", answer.tokens.size()},
                  {"prefill_seconds", asked->prefill_seconds},
                  {"decode_seconds", answer.predicted_seconds},
                  {"draft_n", answer.n_drafted},
                  {"draft_accepted_n", answer.n_accepted},
                  {"kv_bytes", asked->kv_bytes},
                  {"kv_bytes_dense", asked->kv_bytes_dense},
                  {"key_share", asked->key_share}}}});
    if (options.chosen) {
      out["auto"] = {{"why", options.chosen->why},
                     {"measured_at", options.chosen->measured_at},
                     {"speedup", options.chosen->speedup}};
      if (const auto saved = seconds_saved(options, asked->prefill_seconds)) out["auto"]["seconds_saved"] = *saved;
    }
    if (looked) {
      out["looks"] = looks_json(*looked, documents);
      out["supported"] = looked->supported, out["disagree"] = looked->disagree;
      out["cost"]["look_seconds"] = looked->seconds;
    }
    FOVEA_RETURN_IF_ERROR(print_json(out));
  } else {
    if (looked) FOVEA_RETURN_IF_ERROR(print(looks_text(*looked, documents)));
    FOVEA_RETURN_IF_ERROR(print(evidence_text(asked->evidence, documents)));
    const std::string stored = asked->n_stored > 0 ? fmt::format(" ({} of them stored before)", asked->n_stored) : "";
    const auto seconds = seconds_saved(options, asked->prefill_seconds);
    const std::string saved = seconds ? fmt::format("; about {:.1f} s saved by auto", *seconds) : "";
    FOVEA_RETURN_IF_ERROR(print(fmt::format(
        "\ncost  {} tokens{} read in {:.1f} s, {} answered in {:.1f} s{}{}; keys and values {:.1f} MB "
        "(dense: {:.1f}), {:.0f} % of the keys computed ({}){}\n",
        prompt.tokens.size(), stored, asked->prefill_seconds, answer.tokens.size(), answer.predicted_seconds,
        drafted_text(answer), looked ? fmt::format(", looked again in {:.1f} s", looked->seconds) : "",
        static_cast<double>(asked->kv_bytes) / 1e6, static_cast<double>(asked->kv_bytes_dense) / 1e6,
        100 * asked->key_share, session->pipeline().spec(), saved)));
  }
  store.flush(*session);  // when nobody waits for it
  if (interrupted) return make_error(ErrorCode::kCancelled, "interrupted");
  return {};
}

// `ask -f a b "Q"` and `ask "Q" -f a b`: what follows a --file belongs to it, but for the question, which is the first
// word before any or else the last of all.
Status tell_question_from_files(Options& options, const CommandLine& sub, Option words, Option file) {
  std::vector<std::string> files;
  size_t n_words = 0, n_named = 0;
  bool asked = false, after_file = false;
  for (const Option option : sub.order()) {
    if (option == file) {
      after_file = true;
      files.push_back(options.named[n_named++]);
    } else if (option == words) {
      const std::string& word = options.words[n_words++];
      if (!asked && (!after_file || n_words == options.words.size())) {
        options.question = word;
        asked = true;
      } else if (after_file) {
        files.push_back(word);
      } else {
        return make_error(ErrorCode::kUsage, "unexpected argument {}; the question is one argument, in quotes",
                          quote(word, 40));
      }
    }
  }
  std::error_code ignored;
  if (after_file && std::filesystem::exists(options.question, ignored)) {
    return make_error(ErrorCode::kUsage, "QUESTION is missing: the last word is it, and {} is a file",
                      quote(options.question, 4096));
  }
  options.files = after_file ? files : options.named;  // those of FOVEA_ARG_FILE have no order
  return {};
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  options->model.attention = "auto";
  const Option words =
      sub.add_option("QUESTION", options->words, "what to ask about the files; it stands first or last").required();
  const Option file = sub.add_option("-f,--file", options->named,
                                     "texts to read: files, a folder of them, a pattern ('*.txt'); - is stdin; several "
                                     "may follow one flag, which may be repeated")
                          .required()
                          .one_value_each_time();
  add_model_flags(sub, common, options->model, /*model_required=*/false);
  add_soft_prompt_flag(sub, options->model);
  add_prefix_flags(sub, options->prefix);
  add_lookup_flag(sub, options->lookup);
  add_look_flag(sub, options->look);
  sub.add_flag("--small", options->small,
               fmt::format("the model {}: 98 MB instead of 491, and it often fails on long texts", kSmallModel));
  sub.add_option("-n,--n-predict", options->n_predict, "tokens of answer at most")
      .transform(in_range(int64_t{1}, int64_t{1} << 20))
      .show_default();
  sub.add_flag("--estimate", options->estimate, "only print what memory and time it would take");
  return [options, &common, &sub, words, file]() -> Status {
    FOVEA_RETURN_IF_ERROR(tell_question_from_files(*options, sub, words, file));
    if (options->small && !common.model.empty())
      return make_error(ErrorCode::kUsage, "--small names a model, and so does --model: give one of them");
    if (common.model.empty()) common.model = options->small ? kSmallModel : kDefaultModel;
    if (options->question.find_first_not_of(" \t\r\n") == std::string::npos)
      return make_error(ErrorCode::kUsage, "QUESTION is empty");
    options->question = argument_text(options->question, "QUESTION");
    return ask(*options, common);
  };
}

FOVEA_COMMAND("ask", "answer a question about files, with the lines that the answer came from",
              "fovea ask --file /usr/share/common-licenses/GPL-3 \"Who published this licence?\"", setup)

}  // namespace ask_command
}  // namespace fovea::cli
