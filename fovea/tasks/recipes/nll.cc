// How well the second half of a text is predicted when the first is known: its mean negative log-likelihood. Nothing is
// asked, and no chat template stands around the text.
#include "fovea/tasks/task.h"

namespace fovea::tasks {
namespace {

class Nll final : public Task {
 public:
  static constexpr TaskInfo kInfo{.name = "nll",
                                  .summary = "mean loss of a text's second half, given its first",
                                  .source = "as fovea perplexity",
                                  .one_question = true,
                                  .scores_tokens = true};
  const TaskInfo& info() const override { return kInfo; }
  Writing write(Draw& draw) const override {
    Writing out;
    out.next = [&draw] { return draw.haystack.next(); };
    return out;
  }
};
FOVEA_REGISTER_TASK(Nll)

}  // namespace
}  // namespace fovea::tasks
