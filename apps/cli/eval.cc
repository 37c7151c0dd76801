// fovea eval TASK -m MODEL
#include "fovea/tasks/eval.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/cli/answer.h"
#include "apps/cli/documents.h"
#include "apps/cli/model_session.h"
#include "fovea/base/bytes.h"
#include "fovea/base/text_file.h"
#include "fovea/store/model_store.h"
#include "fovea/tasks/needle.h"

namespace fovea::cli {
namespace eval_command {

using nlohmann::json;

constexpr double kEnoughOfDense = 0.7;  // a task that dense attention solves less often says nothing of a method

struct Options {
  std::string task, questions = "seen", depth;
  ModelFlags model;
  int length = 1024, samples = 10;
  Seed seed;
  std::vector<std::string> haystacks;
  bool paired = false, prompts = false;
};

struct Haystacks {
  std::string name;  // "debian", "prose", or the files
  std::vector<engine::Document> texts;
};

// Without a --haystack this machine's licences, and where there are none prose, which is said.
Result<Haystacks> read_haystacks(const Options& options, const Common& common) {
  if (options.haystacks.empty()) {
    auto texts = tasks::default_haystacks();
    if (texts) return Haystacks{"debian", std::move(*texts)};
    if (texts.error().code != ErrorCode::kNotFound) return texts.error();
    if (!common.quiet) tell("no texts in /usr/share/common-licenses: generated prose stands in (--haystack prose)");
    return Haystacks{"prose", {}};
  }
  if (options.haystacks.size() == 1 && options.haystacks[0] == "prose") return Haystacks{"prose", {}};
  if (options.haystacks.size() == 1 && options.haystacks[0] == "debian") {
    FOVEA_ASSIGN_OR_RETURN(auto texts, tasks::default_haystacks());
    return Haystacks{"debian", std::move(texts)};
  }
  FOVEA_ASSIGN_OR_RETURN(auto texts, read_documents(options.haystacks));
  return Haystacks{fmt::format("{}", fmt::join(options.haystacks, " ")), std::move(texts)};
}

json cost_json(const tasks::EvalCost& cost) {
  return {{"prompt_tokens", cost.prompt_tokens},
          {"answer_tokens", cost.answer_tokens},
          {"prefill_seconds", cost.prefill_seconds},
          {"decode_seconds", cost.decode_seconds},
          {"kv_bytes", cost.kv_bytes},
          {"kv_bytes_dense", cost.kv_bytes_dense},
          {"key_share", cost.key_share}};
}
json interval_json(const tasks::Interval& interval) { return json::array({interval.low, interval.high}); }
template <typename T>
json or_null(const std::optional<T>& value) {
  return value ? json(*value) : json();
}

json row_json(const tasks::EvalRow& row, const tasks::SampleQuestion& asked) {
  json out = {{"sample", row.sample},          {"question", row.question}, {"length", row.length},
              {"depth", or_null(asked.depth)}, {"score", row.score},       {"seconds", row.seconds}};
  if (row.nll) {
    out["nll"] = *row.nll;
    if (row.kl) out["kl"] = *row.kl, out["dense_nll"] = or_null(row.dense_nll);
  } else {
    out["asked"] = asked.question.text, out["expected"] = asked.question.expected, out["answer"] = row.answer;
    if (row.dense_score) out["dense_answer"] = row.dense_answer;
  }
  if (row.dense_score) out["dense_score"] = *row.dense_score;
  return out;
}

json result_json(const tasks::EvalResult& result, std::span<const tasks::Sample> samples) {
  json rows = json::array();
  for (const tasks::EvalRow& row : result.rows)
    rows.push_back(row_json(row, samples[row.sample].questions[row.question]));
  json out = {{"score", result.score},
              {"score_interval", interval_json(result.interval)},
              {"per_sample", std::move(rows)},
              {"attention", result.attention},
              {"cost", cost_json(result.cost)}};
  if (result.nll) out["nll"] = *result.nll;
  if (result.kl) out["kl"] = *result.kl;
  if (!result.paired) return out;
  out["dense"] = {{"score", result.paired->score}, {"cost", cost_json(result.paired->cost)}};
  if (result.paired->nll) out["dense"]["nll"] = *result.paired->nll;
  out["difference"] = result.paired->difference;
  out["difference_interval"] = interval_json(result.paired->interval);
  return out;
}

std::string row_line(const tasks::EvalRow& row, const tasks::SampleQuestion& asked) {
  const std::string depth = asked.depth ? fmt::format("{:.2f}", *asked.depth) : "";
  const std::string what = row.nll
                               ? fmt::format("nll {:.4f}", *row.nll)
                               : fmt::format("{} <- {}", escaped_line(row.answer),
                                             escaped_line(fmt::format("{}", fmt::join(asked.question.expected, ", "))));
  return fmt::format("{:6} {:8} {:>6} {:6.2f} {:7.2f}  {}\n", row.sample, row.question, depth, row.score, row.seconds,
                     what);
}

std::string summary(const tasks::Task& task, const tasks::EvalResult& result, int length, double seconds) {
  std::string out = fmt::format("{}  score {:.3f} (95 %: {:.3f} to {:.3f})", task.info().name, result.score,
                                result.interval.low, result.interval.high);
  if (result.nll) out += fmt::format(", nll {:.4f}", *result.nll);
  if (result.kl) out += fmt::format(", kl from dense {:.4f}", *result.kl);
  if (result.paired) {
    out += fmt::format("; dense {:.3f}, difference {:+.3f} ({:+.3f} to {:+.3f})", result.paired->score,
                       result.paired->difference, result.paired->interval.low, result.paired->interval.high);
    if (!result.nll && result.paired->score < kEnoughOfDense)
      out += fmt::format(", too little of dense to judge by (under {})", kEnoughOfDense);
  }
  const tasks::EvalCost& cost = result.cost;
  out += fmt::format(
      "; {} questions at {} tokens in {:.1f} s; keys and values {:.1f} MB (dense: {:.1f}), {:.0f} % of the "
      "keys computed ({})\n",
      result.rows.size(), length, seconds, static_cast<double>(cost.kv_bytes) / 1e6,
      static_cast<double>(cost.kv_bytes_dense) / 1e6, 100 * cost.key_share, result.attention);
  return out;
}

Status eval(const Options& options, const Common& common) {
  const Interrupt interrupt;
  FOVEA_ASSIGN_OR_RETURN(const tasks::Task* task, tasks::find_task(options.task));
  FOVEA_ASSIGN_OR_RETURN(const Haystacks haystacks, read_haystacks(options, common));
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, options.model));
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, model->tokenizer());
  show_seed(common, options.seed);
  tasks::SampleOptions sampling;
  sampling.length = options.length, sampling.n_samples = options.samples, sampling.seed = options.seed.value;
  sampling.asking = options.questions == "later" ? tasks::Asking::kLater : tasks::Asking::kSeen;
  sampling.haystacks = haystacks.texts;
  if (!options.depth.empty()) sampling.depth = std::stod(options.depth);
  FOVEA_ASSIGN_OR_RETURN(const std::vector<tasks::Sample> samples,
                         tasks::make_samples(*task, model->source(), *tokenizer, sampling));

  Progress bar(fmt::format("{}", task->info().name), 0, "tokens", 1, common.quiet);
  tasks::EvalOptions run;
  run.attention = options.model.attention, run.asking = sampling.asking, run.paired = options.paired;
  run.seed = options.seed.value, run.cancel = &Interrupt::flag();
  run.progress = [&bar](int64_t done, int64_t total) {
    bar.set_total(static_cast<uint64_t>(total));
    bar.update(static_cast<uint64_t>(done));
  };
  const bool rows = common.verbose > 0 && !common.json;
  Status printed;
  if (rows) {
    printed = print(fmt::format("{:>6} {:>8} {:>6} {:>6} {:>7}  {}\n", "SAMPLE", "QUESTION", "DEPTH", "SCORE",
                                "SECONDS", task->info().scores_tokens ? "LOSS" : "ANSWER <- EXPECTED"));
    run.on_row = [&](const tasks::EvalRow& row) {
      bar.clear();
      if (printed) printed = print(row_line(row, samples[row.sample].questions[row.question]));
    };
  }
  json setting;
  const auto open = [&](std::string_view attention) -> Result<std::unique_ptr<engine::Session>> {
    ModelFlags flags = options.model;
    flags.attention = attention;
    FOVEA_ASSIGN_OR_RETURN(auto session, open_session(model, common, flags, options.length));
    if (setting.is_null()) setting = setting_json(*session);
    return session;
  };
  const auto start = std::chrono::steady_clock::now();
  const auto result = tasks::evaluate(*task, samples, open, run);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  bar.clear();
  if (!result) return result.error();
  FOVEA_RETURN_IF_ERROR(printed);
  if (!common.json) return print(summary(*task, *result, options.length, seconds));
  setting.update(result_json(*result, samples));
  for (json& row : setting["per_sample"]) {
    if (!options.prompts) break;
    const tasks::Sample& sample = samples[row["sample"].get<size_t>()];
    std::vector<int32_t> ids = sample.context;
    const auto& asked = sample.questions[row["question"].get<size_t>()].tokens;
    ids.insert(ids.end(), asked.begin(), asked.end());
    FOVEA_ASSIGN_OR_RETURN(row["prompt"], tokenizer->decode(ids, /*special=*/true));
  }
  setting.update({{"task", task->info().name},
                  {"length", options.length},
                  {"samples", options.samples},
                  {"seed", options.seed.value},
                  {"questions", options.questions},
                  {"haystack", haystacks.name},
                  {"seconds", seconds}});
  return print_json(setting);
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  options->model.repack_late = false;  // seconds are measured
  sub.add_option("TASK", options->task, "what is asked; below").required();
  add_model_flags(sub, common, options->model);
  sub.add_option("-l,--length", options->length, "tokens of a prompt, template and question included")
      .transform(in_range(int64_t{16}, int64_t{1} << 24))
      .show_default();
  sub.add_option("--samples", options->samples, "prompts, their depths spread evenly")
      .transform(in_range(int64_t{1}, int64_t{100'000}))
      .show_default();
  add_seed_option(sub, options->seed, "of all that is drawn: same seed, same prompts");
  sub.add_option("--questions", options->questions,
                 "seen: the question is part of the prompt; later: the context is a prompt of its own, and five "
                 "questions (one of cwe, fwe, copy, nll) follow, each behind the same context")
      .one_of({"seen", "later"})
      .show_default();
  sub.add_option("--depth", options->depth, "where in the filling the answer stands, for every sample: 0 start, 1 end")
      .transform(in_range(0.0, 1.0));
  sub.add_option("--haystack", options->haystacks,
                 "texts to hide things in: debian (licences of this machine), prose (generated), or files, a folder, a "
                 "pattern; may be repeated")
      .one_value_each_time()
      .show_default("debian");
  sub.add_flag("--paired", options->paired, "run dense attention on the same samples, and give the difference");
  sub.add_flag("--prompts", options->prompts, "with --json: what the model read, as text, in per_sample[].prompt");
  std::string list = "Tasks:\n";
  for (const auto& [name, task] : tasks::all_tasks())
    list += fmt::format("  {:14} {} ({})\n", name, task->info().summary, task->info().source);
  sub.extend_footer(list);
  return [options, &common] { return eval(*options, common); };
}

FOVEA_COMMAND("eval", "how well a model does a task at a length, with any attention",
              "fovea eval passkey -m smollm2-135m --length 400 --samples 3", setup)

}  // namespace eval_command
}  // namespace fovea::cli
