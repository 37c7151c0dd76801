// fovea ask --file FILE "QUESTION"
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/cli/answer.h"
#include "apps/cli/command.h"
#include "apps/cli/model_session.h"
#include "apps/cli/prefix_cache.h"
#include "fovea/base/bytes.h"
#include "fovea/base/text_file.h"
#include "fovea/engine/catalogue.h"
#include "fovea/engine/generate.h"
#include "fovea/engine/model_check.h"
#include "fovea/engine/model_store.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/probe/evidence.h"
#include "fovea/probe/profile.h"

namespace fovea::cli {
namespace {

constexpr const char* kDefaultModel = "qwen2.5-coder-0.5b";
constexpr const char* kSmallModel = "smollm2-135m";
constexpr int kAnswerRoom = 32;                  // tokens that must be left for an answer
constexpr size_t kRowsAhead = size_t{64} << 20;  // bytes of attention rows that drafts may keep waiting

struct Options {
  ModelFlags model;
  PrefixFlags prefix;
  std::string question;
  std::vector<std::string> files;
  engine::LookupOptions lookup;
  int n_predict = 256;
  bool small = false;
};

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

Result<std::vector<probe::Document>> read_documents(const std::vector<std::string>& files) {
  if (std::count(files.begin(), files.end(), "-") > 1)
    return make_error(ErrorCode::kUsage, "--file -: standard input can be read once");
  std::vector<probe::Document> out;
  for (const std::string& file : files) {
    FOVEA_ASSIGN_OR_RETURN(probe::Document document, probe::read_document(file));
    out.push_back(std::move(document));
  }
  return out;
}

// Fetches the model if it is one of ours and not there yet.
Status fetch_if_absent(const Common& common) {
  const auto there = engine::resolve_model(common.model);
  if (there || there.error().code != ErrorCode::kNotFound) return there ? Status() : Status(there.error());
  FOVEA_ASSIGN_OR_RETURN(const engine::CatalogueModel* model, engine::find_in_catalogue(common.model));
  if (!common.quiet) tell("{} is not here yet: fetching it once, {} MB", model->name, model->bytes / 1'000'000);
  Progress progress("fetching " + model->name, model->bytes, "MB", 1e6, common.quiet);
  const auto pulled = engine::pull_model(
      *model, {.progress = [&](uint64_t done, uint64_t) { progress.update(done); }, .cancel = &Interrupt::flag()});
  progress.clear();
  return pulled ? Status() : Status(pulled.error());
}

// The prompt, from the file's metadata alone: that it fits is known before any weight is read.
Result<probe::DocumentPrompt> prompt_that_fits(const Options& options, const Common& common,
                                               std::span<const probe::Document> documents) {
  FOVEA_ASSIGN_OR_RETURN(const std::string path, engine::resolve_model(common.model));
  FOVEA_ASSIGN_OR_RETURN(const auto gguf, formats::Gguf::open(path));
  FOVEA_ASSIGN_OR_RETURN(const engine::ModelSizes sizes, engine::read_sizes(*gguf));
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, engine::load_tokenizer(*gguf));
  FOVEA_ASSIGN_OR_RETURN(probe::DocumentPrompt prompt,
                         probe::make_document_prompt(*gguf, *tokenizer, documents, options.question));
  const auto trained = static_cast<int64_t>(sizes.n_ctx);
  const int64_t n_ctx = options.model.n_ctx > 0 ? std::min<int64_t>(options.model.n_ctx, trained) : trained;
  const auto n_tokens = static_cast<int64_t>(prompt.tokens.size());
  if (n_tokens + kAnswerRoom > n_ctx) {
    return make_error(
        ErrorCode::kLimit, "{} and the question are {} tokens, and {} of answer must fit too; {} reads {}{}",
        documents.size() == 1 ? quoted(documents[0].name, 4096) : fmt::format("the {} files", documents.size()),
        n_tokens, kAnswerRoom, std::filesystem::path(path).stem().string(), n_ctx,
        n_ctx < trained ? " (--ctx-size)" : "");
  }
  return prompt;
}

// Null if the model was never measured, with a word on how to.
Result<std::shared_ptr<const attention::HeadProfile>> profile_of(const engine::Session& session, const Common& common) {
  if (session.shape().profile) return std::make_shared<const attention::HeadProfile>(*session.shape().profile);
  auto found = probe::find_profile(session.model());
  if (found) return std::move(found->heads);
  if (found.error().code != ErrorCode::kNotFound) return found.error();
  if (!common.quiet) {
    tell(
        "this model's heads were never measured; the evidence comes from all of them (fovea profile -m {} tells them "
        "apart)",
        common.model);
  }
  return std::shared_ptr<const attention::HeadProfile>();
}

struct Cost {
  double prefill_seconds = 0;
  int32_t prefix_tokens = 0;  // of the prompt, that were not read again
  uint64_t kv_bytes = 0, kv_bytes_dense = 0;
  double key_share = 1;
};

Cost cost_of(const engine::Session& session, engine::SequenceId sequence) {
  const attention::ModelShape& shape = session.shape();
  const attention::KeyCount& keys = session.key_count();
  Cost cost;
  cost.kv_bytes = session.cache().bytes(sequence);
  cost.kv_bytes_dense =
      session.cache().ideal_bytes(0, session.length(sequence)) * static_cast<uint64_t>(shape.n_layers * shape.n_kv_heads);
  if (keys.dense > 0) cost.key_share = static_cast<double>(keys.seen) / static_cast<double>(keys.dense);
  return cost;
}

std::string place_of(const probe::EvidenceSpan& span, const std::string& name) {
  return span.line_start == span.line_end ? fmt::format("{}:{}", name, span.line_start)
                                          : fmt::format("{}:{}-{}", name, span.line_start, span.line_end);
}

std::string evidence_text(const std::vector<probe::EvidenceSpan>& spans,
                          const std::vector<probe::Document>& documents) {
  if (spans.empty()) return "\nevidence  none: no head looked into the text\n";
  std::string out = "\nevidence\n";
  for (size_t i = 0; i < spans.size(); ++i) {
    out += fmt::format("{}. {}  {:.2f}\n", i + 1,
                       place_of(spans[i], escaped_line(documents[static_cast<size_t>(spans[i].document)].name)),
                       spans[i].score);
    std::string_view rest = spans[i].text;
    while (!rest.empty()) {
      const size_t end = std::min(rest.find('\n'), rest.size());
      const std::string_view line = rest.substr(0, end);
      const size_t first = line.find_first_not_of(" \t");
      if (first != std::string_view::npos) out += fmt::format("   {}\n", escaped_text(line.substr(first)));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  return out;
}

Status ask(const Options& options, const Common& common) {
  const Interrupt interrupt;
  FOVEA_ASSIGN_OR_RETURN(const std::vector<probe::Document> documents, read_documents(options.files));
  FOVEA_RETURN_IF_ERROR(fetch_if_absent(common));
  FOVEA_ASSIGN_OR_RETURN(const probe::DocumentPrompt prompt, prompt_that_fits(options, common, documents));
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, options.model));
  FOVEA_ASSIGN_OR_RETURN(const auto session, open_session(model, common, options.model));
  FOVEA_ASSIGN_OR_RETURN(const auto profile, profile_of(*session, common));

  engine::GenerateOptions generate;
  generate.n_predict = options.n_predict;
  generate.sampling = {.temperature = 0};
  generate.cancel = generate.prefill.cancel = &Interrupt::flag();
  AnswerStream stream(common, generate);
  probe::Evidence evidence(session->shape(), profile.get(), prompt);
  generate.on_token = [&](int32_t token) { evidence.take(token); };
  const size_t most_ahead = kRowsAhead / std::max<size_t>(1, evidence.bytes_per_row());
  generate.lookup = options.lookup;
  generate.lookup.max_drafted = static_cast<int>(std::min(most_ahead, static_cast<size_t>(options.lookup.max_drafted)));

  // The text is read apart from the question, whether or not it is kept: methods that remember where a prompt was
  // cut then answer the same. The last token alone is fed with the observer in place: its row gives the answer's
  // first token.
  const std::span<const int32_t> tokens = prompt.tokens;
  const Clock::time_point start = Clock::now();
  engine::PrefixStore store = open_prefix_store(options.prefix);
  const auto found = store.find(*session, tokens, prompt.n_shared);
  const engine::SequenceId sequence = found ? found->sequence : session->begin();
  const auto n_found = static_cast<size_t>(session->length(sequence));
  for (const size_t end : {prompt.n_shared, tokens.size() - 1}) {
    const auto at = static_cast<size_t>(session->length(sequence));
    if (at < end) {
      const auto read = session->prefill(sequence, tokens.subspan(at, end - at), generate.prefill);
      if (!read) return read.error();
    }
    if (end == prompt.n_shared && end >= n_found + engine::PrefixStore::kLeastTokens)
      store.remember(*session, sequence, tokens.first(end));
  }
  const double prefill_seconds = seconds_since(start);
  session->observe(&evidence);
  const auto n_read = static_cast<size_t>(session->length(sequence));
  generate.before = tokens.first(n_read);
  const auto answer = engine::generate(*session, sequence, tokens.subspan(n_read), generate);
  session->stop_observing(&evidence);
  FOVEA_RETURN_IF_ERROR(stream.end());
  if (!answer) return answer.error();

  const std::vector<probe::EvidenceSpan> spans = evidence.spans(documents);
  Cost cost = cost_of(*session, sequence);
  cost.prefill_seconds = prefill_seconds + answer->prompt_seconds;
  cost.prefix_tokens = static_cast<int32_t>(n_found);
  if (common.json) {
    nlohmann::json rows = nlohmann::json::array();
    for (const probe::EvidenceSpan& span : spans) {
      rows.push_back({{"file", documents[static_cast<size_t>(span.document)].name},
                      {"line_start", span.line_start},
                      {"line_end", span.line_end},
                      {"text", span.text},
                      {"score", span.score}});
    }
    nlohmann::json out = setting_json(*session);
    out.update({{"answer", answer->text},
                {"evidence", rows},
                {"finish_reason", name_of(answer->finish)},
                {"model", std::filesystem::path(model->path()).stem().string()},
                {"cost",
                 {{"prompt_tokens", tokens.size()},
                  {"prefix_tokens", cost.prefix_tokens},
                  {"answer_tokens", answer->tokens.size()},
                  {"prefill_seconds", cost.prefill_seconds},
                  {"decode_seconds", answer->predicted_seconds},
                  {"draft_n", answer->n_drafted},
                  {"draft_accepted_n", answer->n_accepted},
                  {"kv_bytes", cost.kv_bytes},
                  {"kv_bytes_dense", cost.kv_bytes_dense},
                  {"key_share", cost.key_share}}}});
    FOVEA_RETURN_IF_ERROR(print_json(out));
  } else {
    FOVEA_RETURN_IF_ERROR(print(evidence_text(spans, documents)));
    const std::string stored =
        cost.prefix_tokens > 0 ? fmt::format(" ({} of them stored before)", cost.prefix_tokens) : "";
    FOVEA_RETURN_IF_ERROR(print(
        fmt::format("\ncost  {} tokens{} read in {:.1f} s, {} answered in {:.1f} s{}; keys and values {:.1f} MB "
                    "(dense: {:.1f}), {:.0f} % of the keys computed ({})\n",
                    tokens.size(), stored, cost.prefill_seconds, answer->tokens.size(), answer->predicted_seconds,
                    drafted_text(*answer), static_cast<double>(cost.kv_bytes) / 1e6,
                    static_cast<double>(cost.kv_bytes_dense) / 1e6, 100 * cost.key_share, session->pipeline().spec())));
  }
  store.flush(*session);  // when nobody waits for it
  if (answer->finish == engine::Finish::kCancelled) return make_error(ErrorCode::kCancelled, "interrupted");
  return {};
}

std::function<Status()> setup(CLI::App& sub, Common& common) {
  auto options = std::make_shared<Options>();
  sub.add_option("QUESTION", options->question, "what to ask about the files")->required();
  sub.add_option("-f,--file", options->files, "a text to read, - is stdin; may be repeated")
      ->required()
      ->allow_extra_args(false);
  add_model_flags(sub, common, options->model, /*model_required=*/false);
  add_prefix_flags(sub, options->prefix);
  add_lookup_flag(sub, options->lookup);
  sub.add_flag("--small", options->small,
               fmt::format("the model {}: 98 MB instead of 491, and it often fails on long texts", kSmallModel));
  sub.add_option("-n,--n-predict", options->n_predict, "tokens of answer at most")
      ->check(in_range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  return [options, &common]() -> Status {
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

}  // namespace
}  // namespace fovea::cli
