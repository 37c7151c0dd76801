// A task of `fovea eval`: the text of one sample, what is asked about it, and what an answer is worth. Tasks know no
// tokens: prompt.h fills a prompt to its length with what they write. One file of recipes/ each, registered there:
//
//   FOVEA_REGISTER_TASK(Niah)
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/registry.h"
#include "fovea/base/result.h"
#include "fovea/tasks/haystack.h"

namespace fovea::tasks {

struct TaskInfo {
  std::string_view name;       // "niah"
  std::string_view summary;    // a phrase, for a list
  std::string_view source;     // "RULER, arXiv:2404.06654, sec. 3"
  bool one_question = false;   // a context has no more than one, later too
  bool scores_tokens = false;  // how well the second half is predicted from the first; nothing is asked
};

struct Question {
  std::string text;                   // stands behind the context
  std::string begin;                  // what the answer is given to begin with, as RULER does; may be empty
  std::vector<std::string> expected;  // what a right answer holds
};

// What stands in the filling besides it.
struct Hidden {
  std::string text;   // with what stands before it, like a sentence of a haystack
  double depth = 0;   // where in the filling: 0 its start, 1 its end
  int question = -1;  // the place of this one's answer, if it is one
};

struct Writing {
  std::string before, after;  // around filling and hidden texts, both of the context
  std::vector<Hidden> hidden;
  std::function<std::string()> next;  // another piece of filling, with what stands before it
  std::function<std::string()> last;  // longer than two pieces: it is cut to fill the rest; none: any piece is cut
  std::vector<Question> questions;
};

// What a sample is written from.
struct Draw {
  Rng& rng;
  Haystack& haystack;
  double depth;     // of what the first question asks for
  int n_questions;  // 1, or as many as are asked of one context

  double depth_of(int question) const;  // evenly, from `depth` on and round: 0 to 1
};

class Task {
 public:
  virtual ~Task() = default;
  virtual const TaskInfo& info() const = 0;
  virtual Writing write(Draw& draw) const = 0;
  // 0 to 1. As RULER: the share of the expected strings that stand in the answer, in whatever case.
  virtual double score(const Question& question, std::string_view answer) const;
};

const std::map<std::string, std::unique_ptr<const Task>>& all_tasks();  // by name
Result<const Task*> find_task(std::string_view name);                   // kUsage with the nearest; "kv_retrieval" too
bool register_task(std::unique_ptr<const Task> task);

#define FOVEA_REGISTER_TASK(type) \
  [[maybe_unused]] static const bool g_##type##_registered = ::fovea::tasks::register_task(std::make_unique<type>());

}  // namespace fovea::tasks
