#include "fovea/tasks/task.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "fovea/base/bytes.h"
#include "fovea/base/nearest.h"

namespace fovea::tasks {
namespace {

using Registry = std::map<std::string, std::unique_ptr<const Task>>;

Registry& task_registry() {
  static Registry tasks;
  return tasks;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

}  // namespace

double Draw::depth_of(int question) const {
  if (question == 0) return depth;
  return std::fmod(depth + static_cast<double>(question) / n_questions, 1.0);
}

double Task::score(const Question& question, std::string_view answer) const {
  const std::string said = lower(answer);
  const auto n = std::count_if(question.expected.begin(), question.expected.end(), [&](const std::string& wanted) {
    return said.find(lower(wanted)) != std::string::npos;
  });
  return static_cast<double>(n) / static_cast<double>(question.expected.size());
}

const Registry& all_tasks() { return task_registry(); }

bool register_task(std::unique_ptr<const Task> task) {
  const std::string_view name = task->info().name;
  return add_once(task_registry(), "tasks", name, std::move(task));
}

Result<const Task*> find_task(std::string_view name) {
  std::string slug(name);
  std::replace(slug.begin(), slug.end(), '_', '-');
  if (const auto found = all_tasks().find(slug); found != all_tasks().end()) return found->second.get();
  std::vector<std::string> known;
  for (const auto& each : all_tasks()) known.push_back(each.first);
  return make_error(ErrorCode::kUsage, "no task is called {}; nearest: {} (all: fovea eval --help)", quote(name, 80),
                    fmt::join(nearest_names(name, known), ", "));
}

}  // namespace fovea::tasks
