#include "papers/support/task_run.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <span>
#include <utility>

#include "fovea/base/file.h"
#include "fovea/probe/measures/profile.h"

namespace fovea::papers {
namespace {

// Tells profiles apart in a cell's key.
std::string mark_of(const attention::HeadProfile& profile, const std::vector<std::string>& columns) {
  std::string text;
  for (const std::string& name : columns) {
    const auto it = profile.columns.find(name);
    if (it != profile.columns.end()) text += fmt::format("{}: {:.5f}\n", name, fmt::join(it->second.values, " "));
  }
  return sha256_of(std::as_bytes(std::span(text))).substr(0, 12);
}

}  // namespace

Result<std::vector<tasks::Sample>> task_samples(Run& run, const TaskRun& of) {
  FOVEA_ASSIGN_OR_RETURN(const tasks::Task* task, tasks::find_task(of.task));
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, run.model()->tokenizer());
  auto texts = tasks::default_haystacks();
  if (!texts && texts.error().code != ErrorCode::kNotFound) return std::move(texts.error());
  tasks::SampleOptions options;
  options.length = of.length, options.n_samples = of.n_samples, options.seed = run.seed();
  options.asking = of.asking;
  if (texts) options.haystacks = *texts;
  return tasks::make_samples(*task, run.model()->source(), *tokenizer, options);
}

Result<TaskScore> task_score(Run& run, const std::string& attention, const TaskRun& of) {
  Json setting = {{"task", of.task}, {"length", of.length}, {"samples", of.n_samples}};
  if (of.asking == tasks::Asking::kLater) setting["asked"] = "later";
  if (of.beyond) setting["past"] = "the trained length";
  if (!of.columns.empty() && of.profile) setting["profile"] = mark_of(*of.profile, of.columns);
  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell(attention, setting, [&]() -> Result<Json> {
    FOVEA_ASSIGN_OR_RETURN(const tasks::Task* task, tasks::find_task(of.task));
    FOVEA_ASSIGN_OR_RETURN(const auto samples, task_samples(run, of));
    engine::SessionOptions session{.numerics = run.numerics(), .profile = of.profile};
    for (const tasks::Sample& sample : samples) {
      for (const tasks::SampleQuestion& question : sample.questions) {
        const auto whole = static_cast<int>(sample.context.size() + question.tokens.size()) + question.n_answer;
        if (of.beyond) session.n_ctx = std::max(session.n_ctx, whole), session.beyond_training = true;
      }
    }
    const auto open = [&](std::string_view spec) {
      session.attention = std::string(spec);
      return engine::Session::create(run.model(), session);
    };
    tasks::EvalOptions options;
    options.attention = attention, options.asking = of.asking, options.seed = run.seed();
    options.progress = [&](int64_t done, int64_t total) { run.progress(of.task, done, total); };
    options.cancel = run.cancel();
    FOVEA_ASSIGN_OR_RETURN(const tasks::EvalResult result, tasks::evaluate(*task, samples, open, options));
    Json out = {{"score", 100 * result.score},
                {"low", 100 * result.interval.low},
                {"high", 100 * result.interval.high},
                {"kv_bytes", result.cost.kv_bytes},
                {"kv_bytes_dense", result.cost.kv_bytes_dense}};
    if (result.nll) out["nll"] = *result.nll;
    return out;
  }));
  const double dense = cell.at("kv_bytes_dense").get<double>();
  return TaskScore{cell.at("score").get<double>(), cell.value("nll", 0.0),
                   dense > 0 ? cell.at("kv_bytes").get<double>() / dense : 1};
}

Result<double> needle_score(Run& run, const std::string& attention) {
  constexpr int kAnswer = 64;  // tokens that an answer may have, at most
  FOVEA_ASSIGN_OR_RETURN(const TaskScore of, task_score(run, attention,
                                                        {.task = run.word("task"),
                                                         .length = run.lengths("length", kAnswer)[0],
                                                         .n_samples = run.number("samples")}));
  return of.score;
}
std::function<Result<Outcome>(Run&)> needle_check(std::function<Result<Outcome>(Run& run, double dense)> judge,
                                                  int least_prompts) {
  return [judge = std::move(judge), least_prompts](Run& run) -> Result<Outcome> {
    if (run.number("samples") < least_prompts)
      return no_data(fmt::format("{} prompts are too few", run.number("samples")));
    FOVEA_ASSIGN_OR_RETURN(const double dense, needle_score(run, "dense"));
    if (dense < kEnoughOfDense)
      return no_data(fmt::format("dense attention finds {:.0f} %, under {:.0f}", dense, kEnoughOfDense));
    return judge(run, dense);
  };
}

Result<std::shared_ptr<const attention::HeadProfile>> profile_of_model(const Run& run) {
  auto found = probe::find_profile(*run.model());
  if (found) return found->heads;
  if (found.error().code != ErrorCode::kNotFound) return std::move(found.error());
  return std::shared_ptr<const attention::HeadProfile>();
}

}  // namespace fovea::papers
