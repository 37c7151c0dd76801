// Scores of tasks (fovea/tasks/eval.h) under an --attention, as cells of the arms table.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fovea/tasks/eval.h"
#include "papers/support/run.h"

namespace fovea::papers {

struct TaskRun {
  std::string task;
  int length = 1024, n_samples = 10;  // tokens of a prompt; prompts
  tasks::Asking asking = tasks::Asking::kSeen;
  std::shared_ptr<const attention::HeadProfile> profile = nullptr;  // for methods that need one
  std::vector<std::string> columns = {};                            // of the profile, that the attention goes by
  bool beyond = false;  // prompts may be longer than what the model was trained for
};
struct TaskScore {
  double score = 0;  // 0 to 100, the mean over the prompts
  double nll = 0;    // nats a token, where tokens are scored
  double bytes = 1;  // keys and values in the end, by dense
};
// Texts are this machine's licences, where there are none prose. A cell.
Result<TaskScore> task_score(Run& run, const std::string& attention, const TaskRun& task);
Result<std::vector<tasks::Sample>> task_samples(Run& run, const TaskRun& task);

// Under this much of dense a task says nothing of a method.
inline constexpr double kEnoughOfDense = 70;
// A control that goes by the scores of fewer prompts has no data: one answer would decide it.
inline constexpr int kEnoughPrompts = 10;

// What an attention finds, by the settings task, length and samples.
Result<double> needle_score(Run& run, const std::string& attention);
// A check of needles: judged where dense attention finds enough of them, in `least_prompts` or more.
std::function<Result<Outcome>(Run&)> needle_check(std::function<Result<Outcome>(Run& run, double dense)> judge,
                                                  int least_prompts = 0);

// The profile of the run's model, kept or shipped; null where it has none.
Result<std::shared_ptr<const attention::HeadProfile>> profile_of_model(const Run& run);

}  // namespace fovea::papers
