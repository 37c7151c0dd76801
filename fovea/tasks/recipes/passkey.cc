// A number that is told twice in a row in a text of no account.
// Mohtashami & Jaggi, "Landmark Attention: Random-Access Infinite Context Length for Transformers", arXiv:2305.16300.
// There the rest is one sentence over and over; here it is a haystack. Where several are asked for, each is
// the key of a gate.
#include <fmt/format.h>

#include "fovea/tasks/task.h"
#include "fovea/tasks/words.h"

namespace fovea::tasks {
namespace {

class Passkey final : public Task {
 public:
  static constexpr TaskInfo kInfo{.name = "passkey",
                                  .summary = "a number that a sentence of the text tells twice",
                                  .source = "Mohtashami & Jaggi, arXiv:2305.16300"};
  const TaskInfo& info() const override { return kInfo; }

  Writing write(Draw& draw) const override {
    Writing out;
    out.before =
        "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you "
        "about the important information there.";
    out.next = [&draw] { return draw.haystack.next(); };
    const auto n = static_cast<size_t>(draw.n_questions);
    const auto numbers = draw_numbers(n, 5, draw.rng);
    const auto names = some_of(adjectives(), n, draw.rng);
    for (size_t i = 0; i < n; ++i) {
      const std::string of = n == 1 ? "" : fmt::format(" of the {} gate", names[i]);
      const int question = static_cast<int>(i);
      out.hidden.push_back(
          {fmt::format(" The pass key{} is {}. Remember it. {} is the pass key{}.", of, numbers[i], numbers[i], of),
           draw.depth_of(question), question});
      out.questions.push_back(
          {fmt::format("What is the pass key{}?", of), fmt::format("The pass key{} is", of), {numbers[i]}});
    }
    return out;
  }
};
FOVEA_REGISTER_TASK(Passkey)

}  // namespace
}  // namespace fovea::tasks
